"""OFD (Heo et al. 2019): values before the last ReLU of a stage, margins out of the teacher's batch norms."""

import math

import pytest
import torch
from torch import nn

from kddense import Objective
from kddense.connectors import build_connector, match_size
from kddense.registry import MODELS

from ..helpers import plugins, tiny

STAGES = ('layer1.1', 'layer2.1')
TAPS = [f'backbone.{stage}.relu:input:copy' for stage in STAGES]
STUDENT = tiny.segmentor('pspnet_r50-d8')
TEACHER = tiny.segmentor('pspnet_r50-d8', width=16)


def margin(norm):
    """Return the expected value of a norm's output where it is below 0, per channel, ``(1, C, 1, 1)``."""
    spread, middle = norm.weight.detach().abs().double(), norm.bias.detach().double()
    below = 0.5 * (1 + torch.erf(-middle / spread / math.sqrt(2)))
    density = torch.exp(-0.5 * (middle / spread) ** 2) / math.sqrt(2 * math.pi)
    return torch.where(below > 1e-3, middle - spread * density / below, -3 * spread).float().view(1, -1, 1, 1)


@MODELS.register_module()
class Overhaul(Objective):
    """A partial distance: what both models switch off is no error."""

    student_taps = teacher_taps = frozenset(TAPS)

    def bind(self, student, teacher):
        super().bind(student, teacher)
        ours, theirs = student.probe(TAPS), teacher.probe(TAPS)
        layer = dict(norm=dict(type='BN'))
        self.layers = nn.ModuleList(build_connector(layer, ours[tap][-1].shape, theirs[tap][-1].shape) for tap in TAPS)
        for index, stage in enumerate(STAGES):
            self.register_buffer(f'margin{index}', margin(teacher.norm_at(f'backbone.{stage}.bn2')))

    def forward(self, seen, taught):
        total = 0
        for index, (tap, layer) in enumerate(zip(TAPS, self.layers, strict=True)):
            own, other = (answer.taps[tap][-1] for answer in (seen, taught))  # each block runs its ReLU twice
            own, other = match_size(layer(own), other)
            target = torch.maximum(other, getattr(self, f'margin{index}'))
            counts = (own > target) | (target > 0)
            total = total + ((own - target).square() * counts).sum() / len(own) / 2 ** (len(TAPS) - 1 - index)
        return dict(loss=total / 1000)


def build(**options):
    objectives = dict(ofd=dict(type='kddense.Overhaul'))
    return tiny.distiller(STUDENT, tiny.teacher_of(TEACHER, 'mmseg', **options), objectives, 'mmseg')


def test_it_hears_what_the_last_relu_is_given():
    model = build()
    backbone = model.student.backbone
    given = []
    block = backbone.layer1[1]
    block.bn2.register_forward_hook(lambda module, args, out: given.append(out.clone()))
    block.register_forward_hook(lambda module, args, out: given.append((args[0].clone(), out.clone())))
    heard = []
    model.objectives['ofd'].register_forward_pre_hook(lambda module, args: heard.append(args[0].taps[TAPS[0]]))
    tiny.step(model, tiny.segmentation_data())
    assert len(heard[0]) == 2
    last = heard[0][-1]
    assert (last < 0).any()
    assert torch.equal(last.relu(), given[1][1])


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_it_trains_under_all_contracts(precision):
    model = build(precision=precision)
    assert 'backbone.layer1.0.conv1.weight' in plugins.gradients(model, tiny.segmentation_data())
    plugins.train(model, tiny.segmentation_data())
    plugins.assert_contracts(model, STUDENT, 'mmseg', rebuild=lambda: build(precision=precision))


def test_a_folded_teacher_has_the_margins_that_it_was_trained_with(tmp_path):
    source = tiny.build(TEACHER, scope='mmseg')
    tiny.shake(source)
    torch.save(source.state_dict(), tmp_path / 'teacher.pth')
    wide, low = (build(checkpoint=str(tmp_path / 'teacher.pth'), precision=one) for one in ('fp32', 'bf16'))
    assert not isinstance(low.teachers['teacher'].model.backbone.layer1[1].bn2, nn.BatchNorm2d), 'it is folded'
    for index, stage in enumerate(STAGES):
        expected = margin(source.get_submodule(f'backbone.{stage}.bn2'))
        assert expected.std() > 0
        assert torch.equal(getattr(wide.objectives['ofd'], f'margin{index}'), expected)
        assert torch.equal(getattr(low.objectives['ofd'], f'margin{index}'), expected)
