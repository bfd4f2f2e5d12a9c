"""ReviewKD and FBKD (Chen et al. 2021; Zhang & Ma 2021): connectors over all levels, or on the teacher's side."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kddense.objectives import FeatureObjective
from kddense.registry import MODELS

from ..helpers import plugins, tiny

STUDENT, TEACHER = tiny.single_stage('retinanet'), tiny.single_stage('retinanet', width=16, fpn=32)
DATA = tiny.detection_data()


@MODELS.register_module()
class Review(nn.Module):
    """Each level of the student is fused with the deeper ones, from the deepest on."""

    fuses = True

    def __init__(self, in_channels, out_channels, middle=8):
        super().__init__()
        self.into = nn.ModuleList(nn.Conv2d(one, middle, 1) for one in in_channels)
        self.mix = nn.ModuleList(nn.Conv2d(2 * middle, 2, 1) for _ in in_channels[1:])
        self.out = nn.ModuleList(nn.Conv2d(middle, one, 3, padding=1) for one in out_channels)

    def forward(self, levels):
        maps = [layer(level) for layer, level in zip(self.into, levels, strict=True)]
        for index in reversed(range(len(maps) - 1)):
            deeper = F.interpolate(maps[index + 1], maps[index].shape[2:])
            share = self.mix[index](torch.cat([maps[index], deeper], dim=1)).sigmoid()
            maps[index] = maps[index] * share[:, :1] + deeper * share[:, 1:]
        return [layer(one) for layer, one in zip(self.out, maps, strict=True)]


@MODELS.register_module()
class HierarchicalContext(nn.Module):
    """Compares maps at several sizes."""

    def forward(self, own, other):
        total, weights = F.mse_loss(own, other), 1.0
        for size, weight in ((4, 0.5), (2, 0.25), (1, 0.125)):
            if size < own.shape[2]:
                pooled = F.adaptive_avg_pool2d(own, size), F.adaptive_avg_pool2d(other, size)
                total, weights = total + weight * F.mse_loss(*pooled), weights + weight
        return total / weights


@MODELS.register_module()
class FBKD(FeatureObjective):
    """Compares what both models attend to, and the features there."""

    loss_names = ('loss_feature', 'loss_attention')

    def forward(self, seen, taught):
        losses = dict.fromkeys(self.loss_names, 0)
        for own, other in self.pairs(seen, taught):
            ours, theirs = (self.attention(one) for one in (own, other))
            mask = ((ours + theirs) / 2).detach()
            losses['loss_feature'] += 7e-5 * ((own - other).square() * mask).sum().sqrt()
            losses['loss_attention'] += 4e-3 * (ours - theirs).norm()
        return losses

    def attention(self, x):
        return (x.abs().mean(1).flatten(1) / 0.5).softmax(1).view(len(x), 1, *x.shape[2:]) * x[0, 0].numel()


@MODELS.register_module()
class OneLevelShort(Review):
    """Forgets a level."""

    def forward(self, levels):
        return super().forward(levels)[:-1]


@MODELS.register_module()
class OfTheWrongWidth(Review):
    """Returns the channels of the side it stands on."""

    def forward(self, levels):
        return list(levels)


def review(connector='Review', **options):
    layer = dict(type=f'kddense.{connector}')
    objective = dict(type='kddense.FeatureObjective', tap='backbone', connector=layer, **options)
    objective.setdefault('loss', dict(type='kddense.HierarchicalContext'))
    return tiny.distiller(STUDENT, TEACHER, dict(x=objective))


@pytest.mark.parametrize('side', ['student', 'teacher'])
def test_one_connector_sees_all_levels(side):
    model = review(connect=side)
    (layer,) = model.objectives['x'].connectors
    widths = [8, 16, 32, 64], [16, 32, 64, 128]
    into, out = ([one.weight.shape[axis] for one in part] for part, axis in ((layer.into, 1), (layer.out, 0)))
    assert (into, out) == (widths if side == 'student' else widths[::-1])
    assert 'backbone.layer1.0.conv1.weight' in plugins.gradients(model, DATA)
    plugins.train(model, DATA)
    plugins.assert_contracts(model, STUDENT, rebuild=lambda: review(connect=side))


def test_levels_are_fused():
    model = review()
    assert 'backbone.layer4.0.conv1.weight' in plugins.gradients(model, DATA)
    shallow = review(levels=[0])
    assert not any(key.startswith('backbone.layer4') for key in plugins.gradients(shallow, DATA))


@pytest.mark.parametrize(
    'connector, sentence',
    [
        ('OneLevelShort', r"'kddense.OneLevelShort' must return 4 levels of \[16, 32, 64, 128\] channels, it returns \["),
        ('OfTheWrongWidth', r"'kddense.OfTheWrongWidth' must return 4 levels of \[16, 32, 64, 128\] channels"),
    ],
)
def test_other_shapes_are_refused(connector, sentence):
    with pytest.raises(ValueError, match=f'objectives.x: connector {sentence}'):
        review(connector)


def fbkd(connect):
    return tiny.distiller(STUDENT, TEACHER, dict(x=dict(type='kddense.FBKD', tap='neck', connect=connect)))


@pytest.mark.parametrize('side', ['student', 'teacher'])
def test_a_connector_stands_on_either_side(side):
    model = fbkd(side)
    widths = {(layer.conv.in_channels, layer.conv.out_channels) for layer in model.objectives['x'].connectors}
    assert widths == ({(16, 32)} if side == 'student' else {(32, 16)})
    assert 'backbone.layer2.0.conv1.weight' in plugins.gradients(model, DATA)
    losses = tiny.step(model, DATA)
    tiny.total(losses).backward()
    assert all(layer.conv.weight.grad.any() for layer in model.objectives['x'].connectors)
    plugins.train(model, DATA)
    plugins.assert_contracts(model, STUDENT, rebuild=lambda: fbkd(side))
