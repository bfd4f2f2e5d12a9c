"""FGD and MGD (Yang et al. 2022): ground truth out of the batch; the teacher's map restored from a masked one."""

import pytest
import torch
from torch import nn

from kddense.objectives import FeatureObjective
from kddense.registry import MODELS

from ..helpers import plugins, tiny

STUDENT, TEACHER = tiny.single_stage('retinanet'), tiny.single_stage('retinanet', width=16, fpn=32)
DATA = tiny.detection_data()


def focus(samples, image, like):
    """Return what each cell of a map counts: 1 / area inside the smallest box, 1 / rest outside, ``(N, 1, h, w)``."""
    (height, width), (h, w) = image, like.shape[-2:]
    inside, outside = like.new_zeros(len(like), 1, h, w), like.new_ones(len(like), 1, h, w)
    for row, sample in enumerate(samples):
        for x1, y1, x2, y2 in sample.gt_instances.bboxes.tolist():
            left, right = int(x1 / width * w), min(-int(-x2 / width * w // 1), w - 1)
            top, bottom = int(y1 / height * h), min(-int(-y2 / height * h // 1), h - 1)
            box = (row, 0, slice(top, bottom + 1), slice(left, right + 1))
            inside[box] = inside[box].clamp(min=1 / ((right - left + 1) * (bottom - top + 1)))
            outside[box] = 0
        outside[row] /= outside[row].sum().clamp(min=1)
    return inside, outside


class Global(nn.Module):
    """What the whole image adds to each place."""

    def __init__(self, channels):
        super().__init__()
        self.mask = nn.Conv2d(channels, 1, 1)
        self.add = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        weights = self.mask(x).flatten(2).softmax(2)
        return x + self.add((x.flatten(2) @ weights.transpose(1, 2)).unsqueeze(-1))


@MODELS.register_module()
class FGD(FeatureObjective):
    """Foreground, background, attention and relations of every level of the FPN."""

    loss_names = ('loss_fg', 'loss_bg', 'loss_at', 'loss_global')

    def bind(self, student, teacher):
        super().bind(student, teacher)
        channels = {level.shape[1] for level in teacher.probe([self.teacher_tap])[self.teacher_tap]}
        self.relations = nn.ModuleList(Global(*channels) for _ in range(2))

    def attention(self, x):
        places = (x.abs().mean(1).flatten(1) / 0.5).softmax(1).view(len(x), 1, *x.shape[2:]) * x[0, 0].numel()
        channels = (x.abs().mean((2, 3)) / 0.5).softmax(1)[..., None, None] * x.shape[1]
        return places, channels

    def forward(self, seen, taught):
        losses = dict.fromkeys(self.loss_names, 0)
        for own, other in self.pairs(seen, taught):
            inside, outside = focus(seen.batch.data_samples, seen.batch.inputs.shape[-2:], other)
            (ours, our_channels), (places, channels) = self.attention(own), self.attention(other)
            error = (own - other).square() * places * channels
            losses['loss_fg'] += 1e-3 * (error * inside).sum() / len(own)
            losses['loss_bg'] += 5e-4 * (error * outside).sum() / len(own)
            losses['loss_at'] += 1e-3 * ((ours - places).abs().sum() + (our_channels - channels).abs().sum()) / len(own)
            relations = self.relations[0](own) - self.relations[1](other)
            losses['loss_global'] += 5e-6 * relations.square().sum() / len(own)
        return losses


@MODELS.register_module()
class MGD(FeatureObjective):
    """Two convolutions restore the teacher's map from the student's, of which a part is missing."""

    def bind_pair(self, own, other):
        super().bind_pair(own, other)
        width = other.shape[1]
        layers = nn.Conv2d(width, width, 3, padding=1), nn.ReLU(True), nn.Conv2d(width, width, 3, padding=1)
        self.generators = getattr(self, 'generators', nn.ModuleList())
        self.generators.append(nn.Sequential(*layers))

    def forward(self, seen, taught):
        total = 0
        for layers, (own, other) in zip(self.generators, self.pairs(seen, taught), strict=True):
            kept = (torch.rand_like(own[:, :1]) > 0.65).to(own)
            total = total + (layers(own * kept) - other).square().sum() / len(own)
        return dict(loss=2e-5 * total)


def test_each_cell_counts_by_the_smallest_box_around_it():
    (sample,) = tiny.detection_data(sizes=((64, 64),), boxes=(((0, 0, 24, 24), (8, 8, 16, 16)),))['data_samples']
    inside, outside = focus([sample], (64, 64), torch.zeros(1, 2, 8, 8))
    assert inside[0, 0, 1, 1] == pytest.approx(1 / 4)
    assert inside[0, 0, 3, 3] == pytest.approx(1 / 16)
    assert inside[0, 0, 4:].sum() == 0
    assert float(outside.sum()) == pytest.approx(1)
    assert outside[0, 0, :4, :4].sum() == 0


def build(kind, student=STUDENT, teacher=TEACHER):
    return tiny.distiller(student, teacher, dict(x=dict(type=f'kddense.{kind}', tap='neck')))


@pytest.mark.parametrize('kind', ['FGD', 'MGD'])
def test_they_train_under_all_contracts(kind):
    model = build(kind)
    assert 'backbone.layer2.0.conv1.weight' in plugins.gradients(model, DATA)
    plugins.train(model, DATA)
    plugins.assert_contracts(model, STUDENT, rebuild=lambda: build(kind))


def test_fgd_counts_the_boxes_of_this_batch():
    model = build('FGD', tiny.faster_rcnn(), tiny.faster_rcnn(width=16, fpn=32))
    whole = tiny.step(model, DATA)
    few = tiny.detection_data(boxes=(tiny.BOXES[:1], ()))
    assert float(tiny.step(model, few)['distill.x.loss_fg']) != float(whole['distill.x.loss_fg'])
    none = tiny.detection_data(boxes=((), ()))
    assert float(tiny.step(model, none)['distill.x.loss_fg']) == 0


def test_the_ground_truth_is_there_with_two_kinds_of_detectors():
    model = build('FGD', tiny.single_stage('fcos'), TEACHER)
    assert plugins.gradients(model, DATA)
