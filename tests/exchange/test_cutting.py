"""Samples, opinions and answers of every family are cut into those of single images, and put together as they were."""

from dataclasses import fields, is_dataclass

import pytest
import torch

from kddense import Objective
from kddense.exchange import Answer, ViewError
from kddense.registry import MODELS

from ..helpers import depth_estimators, detectors, tiny, transformers


@MODELS.register_module()
class Overhears(Objective):
    """Keeps both answers."""

    def __init__(self, kinds, taps=(), **kwargs):
        super().__init__(**kwargs)
        self.kinds = frozenset(kinds)
        self.student_taps = self.teacher_taps = frozenset(taps)

    def forward(self, seen, taught):
        self.heard = dict(student=seen, teacher=taught)
        return dict(loss=seen.batch.inputs.sum() * 0)


DETECTION = tiny.detection_data(sizes=((64, 64), (48, 60), (64, 40)), boxes=(tiny.BOXES, (), tiny.BOXES[1:2]))
WITH_MASKS = tiny.detection_data(
    sizes=((64, 64), (48, 60), (64, 40)), boxes=(tiny.BOXES, (), tiny.BOXES[1:2]), masks=True
)
SEGMENTATION = tiny.segmentation_data(count=3)
PIXELS = ('pixels', 'auxiliary')
FAMILIES = {
    'faster_rcnn': (tiny.faster_rcnn(), 'mmdet', ('rpn', 'roi'), ('neck',), DETECTION),
    'mask_rcnn': (tiny.mask_rcnn(), 'mmdet', ('roi', 'masks'), (), WITH_MASKS),
    'cascade_rcnn': (tiny.cascade_rcnn(), 'mmdet', ('rpn', 'roi'), (), DETECTION),
    **{
        head: (detectors.one_stage(head), 'mmdet', ('dense', 'scores'), ('bbox_head',), DETECTION)
        for head in detectors.HEADS
    },
    'dab_detr': (transformers.detr('dab'), 'mmdet', ('queries', 'predictions'), ('encoder',), DETECTION),
    'pspnet': (tiny.segmentor('pspnet_r50-d8'), 'mmseg', PIXELS, ('backbone', 'decode_head:input'), SEGMENTATION),
    'depth': (
        depth_estimators.depth_estimator(),
        'mmseg',
        ('pixels',),
        ('backbone',),
        depth_estimators.depth_data(count=3),
    ),
}


@pytest.fixture(scope='module', params=list(FAMILIES))
def heard(request):
    config, scope, kinds, taps, data = FAMILIES[request.param]
    objective = dict(type='kddense.Overhears', kinds=kinds, taps=taps)
    model = tiny.distiller(config, config, dict(x=objective), scope)
    tiny.step(model, data)
    return model.objectives['x'].heard


def assert_equal(one, other, where):
    """Compare two values field by field, bit by bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
        assert one.dtype == other.dtype, where
    elif is_dataclass(one):
        assert type(one) is type(other), where
        for field in filter(lambda field: field.compare, fields(one)):
            assert_equal(getattr(one, field.name), getattr(other, field.name), f'{where}.{field.name}')
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key, value in one.items():
            assert_equal(value, other[key], f'{where}[{key!r}]')
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for number, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f'{where}[{number}]')
    else:
        assert one is other or one == other, where


@pytest.mark.parametrize('side', ['student', 'teacher'])
def test_joining_is_the_inverse_of_cutting(heard, side):
    answer = heard[side]
    parts = answer.cut(3)
    assert len(parts) == 3
    assert_equal(Answer.join(parts), answer, side)


@pytest.mark.parametrize('side', ['student', 'teacher'])
def test_samples_and_opinions_are_cut_alone_too(heard, side):
    for group in (heard[side].samples, heard[side].opinions):
        for kind, items in group.items():
            for item in items:
                parts = item.cut(3)
                assert_equal(type(item).join(parts), item, kind)
                assert not any(part is item for part in parts)


def test_each_part_is_about_its_own_image(heard):
    for image, part in enumerate(heard['student'].cut(3)):
        assert len(part.batch.inputs) == 1
        assert part.batch.data_samples == [heard['student'].batch.data_samples[image]]
        for kind, samples in part.samples.items():
            for sample, whole in zip(samples, heard['student'].samples[kind], strict=True):
                if kind in ('rpn', 'roi', 'dense'):
                    assert (sample.image == 0).all()
                    assert sample.num_sampled == int((whole.image == image).sum())
                    assert len(sample.positive) == int((whole.image[whole.positive] == image).sum())


def test_an_answer_about_rois_cannot_be_cut():
    tap = 'roi_head.bbox_head.shared_fcs.0:copy'
    objective = dict(type='kddense.Overhears', kinds=('roi',), taps=(tap,))
    model = tiny.distiller(tiny.faster_rcnn(), tiny.faster_rcnn(), dict(x=objective))
    tiny.step(model, DETECTION)
    for answer in model.objectives['x'].heard.values():
        with pytest.raises(
            ViewError, match=f"tap '{tap}' is not about images one by one: its answer cannot be cut into"
        ):
            answer.cut(3)
