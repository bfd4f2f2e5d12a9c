"""Depth up to scale and shift: teachers of both kinds, crops, pixels without labels, what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kddense.losses import depth_gradient_distance, scale_shift_invariant_distance
from kddense.registry import MODELS

from ..helpers import plugins, tiny
from ..helpers.depth_estimators import depth_data, depth_estimator
from ..helpers.segmentors import listen

RELATIVE = dict(type='kddense.RelativeDepthObjective')


@MODELS.register_module()
class RelativeModel(nn.Module):
    """Gives something like inverse depth, at the resolution of the image, for images of whole patches."""

    def __init__(self, channels=1, patch=14):
        super().__init__()
        self.patch = patch
        self.layer = nn.Conv2d(3, channels, 5, padding=2)

    def forward(self, images):
        assert all(length % self.patch == 0 for length in images.shape[-2:])
        return self.layer(images)


def build(config, teacher=None):
    teacher = teacher or tiny.teacher_of(depth_estimator(width=12), 'mmseg')
    model = dict(type='kddense.Distiller', student=depth_estimator(), teacher=teacher, objectives=dict(it=config))
    return tiny.build(model, scope='mmseg')


def relative_teacher(**options):
    module = dict(type='kddense.RelativeModel', **options)
    return dict(type='kddense.ModuleTeacher', module=module, size_divisor=14)


def run(config, data=None):
    model = build(config)
    heads = [one.decode_head for one in (model.student, model.teachers['teacher'].model)]
    heard = [listen(head.decoder) for head in heads]
    losses = tiny.step(model, data or depth_data())
    return losses, *(head.to_depth(one['logits'][0]) for head, one in zip(heads, heard, strict=True))


@pytest.mark.parametrize('space, trim', [('inverse', None), ('inverse', 0.0), ('depth', 0.5)])
def test_the_terms_are_those_of_the_losses(space, trim):
    losses, own, other = run(dict(RELATIVE, space=space, trim=trim, local=2.0, crop_size=1.0, crops=1, gradient=0.5))
    own, other = (1 / own, 1 / other) if space == 'inverse' else (own, other)
    expected = scale_shift_invariant_distance(own, other, trim=trim)
    torch.testing.assert_close(losses['distill.it.loss_global'], expected)
    torch.testing.assert_close(losses['distill.it.loss_local'], 2 * expected)  # crops of the whole map
    torch.testing.assert_close(losses['distill.it.loss_gradient'], 0.5 * depth_gradient_distance(own, other))


def test_a_term_of_weight_0_is_left_out():
    losses, *_ = run(dict(RELATIVE, gradient=0))
    assert [name for name in losses if name.startswith('distill.')] == ['distill.it.loss_global']


def test_the_labels_do_not_matter():
    """Where no depth is known there is the teacher's."""
    known, unknown = (run(RELATIVE, depth_data(unknown=share))[0] for share in (0.0, 0.9))
    assert known['distill.it.loss_global'] == unknown['distill.it.loss_global']


def test_padding_does_not_count():
    losses, own, other = run(dict(RELATIVE, gradient=0), depth_data((48, 64)))  # 64 rows with the padding
    valid = torch.ones_like(own, dtype=torch.bool)
    valid[:, :, 12:] = False
    expected = scale_shift_invariant_distance(1 / own, 1 / other, valid)
    torch.testing.assert_close(losses['distill.it.loss_global'], expected)


def test_crops_are_normalised_each_by_itself(monkeypatch):
    """Two halves with shifts of their own: whole maps differ, crops that lie in one half do not."""
    model = build(dict(RELATIVE, local=1.0, crops=2, crop_size=0.5))
    objective = model.objectives['it']
    monkeypatch.setattr(
        'kddense.objectives.relative_depth.SharedNumbers.draw',
        lambda self, shape, like: torch.tensor([[[0.0, 0.3], [0.999, 0.6]]]).expand(shape),
    )
    teacher = torch.rand(3, 1, 8, 8)
    student = teacher.clone()
    student[:, :, 4:] += 7
    valid = torch.ones_like(student, dtype=torch.bool)
    crops = objective._cropped((student, teacher, valid))
    assert [tuple(one.shape) for one in crops] == [(6, 1, 4, 4)] * 3
    torch.testing.assert_close(crops[1][1], teacher[0, :, 4:, 3:7])
    assert scale_shift_invariant_distance(*crops) < 1e-6 < scale_shift_invariant_distance(student, teacher)


@pytest.mark.parametrize('resize', ['student', 'teacher'])
def test_a_teacher_of_another_library(resize):
    config = dict(RELATIVE, teacher_tap='', local=1.0, resize=resize)
    model = build(config, relative_teacher())
    assert 'backbone.layer1.0.conv1.weight' in plugins.gradients(model, depth_data())
    plugins.train(model, depth_data())
    plugins.assert_contracts(model, depth_estimator(), 'mmseg', rebuild=lambda: build(config, relative_teacher()))


def unlabelled(data, which):
    for index in which:
        data['data_samples'][index].set_metainfo(dict(unlabelled=True))
        del data['data_samples'][index].gt_depth_map
    return data


@pytest.mark.parametrize('which', [[1], [0, 1]])
def test_images_without_labels_are_learned_from(which):
    model = build(RELATIVE)
    data = unlabelled(depth_data(), which)
    assert 'backbone.layer1.0.conv1.weight' in plugins.gradients(model, data)
    losses = tiny.step(model, data)
    own = [value for name, value in losses.items() if not name.startswith('distill.') and 'loss' in name]
    assert all((value == 0) == (len(which) == 2) for value in own)
    tiny.total(losses).backward()
    assert not [name for name, one in model.student.named_parameters() if one.grad is None]


@pytest.mark.parametrize(
    'options, teacher, sentence',
    [
        (dict(space='disparity'), None, "space must be one of 'inverse', 'depth'"),
        (dict(crops=0), None, 'crops must be at least 1'),
        (dict(crop_size=1.5), None, 'crop_size must be above 0 and at most 1'),
        (dict(local=-1.0), None, 'local must be at least 0'),
        (dict(align='median'), None, 'align must be one of'),
        (
            dict(teacher_tap=''),
            relative_teacher(channels=2),
            r"teacher_tap '' must hold one map of depth, .* \(1, 2, 70, 70\)",
        ),
        ({}, relative_teacher(), r'teacher \(RelativeModel\) does not estimate depth; name with teacher_tap where'),
    ],
)
def test_what_does_not_fit_is_one_sentence(options, teacher, sentence):
    with pytest.raises(ValueError, match=f'objectives.it.*{sentence}'):
        build(dict(RELATIVE, **options), teacher)


def test_a_student_that_is_no_depth_estimator_is_refused():
    model = dict(type='kddense.Distiller', student=tiny.segmentor('pspnet_r50-d8'), teacher=relative_teacher())
    with pytest.raises(ValueError, match=r'student \(EncoderDecoder\) does not estimate depth'):
        tiny.build(dict(model, objectives=dict(it=dict(RELATIVE, teacher_tap=''))), scope='mmseg')
