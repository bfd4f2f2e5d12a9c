"""ShrinkForStudent: a large image for the teacher, a small one for the student."""

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

from kddense import ShrinkForStudent
from kddense.registry import TRANSFORMS

from ..helpers import tiny


@pytest.fixture(params=['mmdet', 'mmseg'])
def scope(request):
    import mmseg.datasets.transforms  # noqa: F401

    with DefaultScope.overwrite_default_scope(request.param):
        yield request.param


def results(scope):
    image = tiny.image(60, 90).permute(1, 2, 0).contiguous().numpy()
    own = dict(img=image, img_shape=(60, 90), ori_shape=(30, 45), scale_factor=(2.0, 2.0))
    if scope == 'mmdet':
        own.update(
            gt_bboxes=np.array(tiny.BOXES, dtype=np.float32),
            gt_bboxes_labels=np.arange(3),
            gt_ignore_flags=np.zeros(3, dtype=bool),
        )
    else:
        labels = np.zeros((60, 90), dtype=np.uint8)
        labels[:30] = 4
        own.update(gt_seg_map=labels, seg_fields=['gt_seg_map'])
    return own


def test_the_teacher_keeps_the_pixels_and_the_student_gets_fewer(scope):
    before = results(scope)
    after = TRANSFORMS.build(dict(type='kddense.ShrinkForStudent', factor=2))(results(scope))
    np.testing.assert_array_equal(after['teacher_img'], before['img'])
    assert after['img'].shape == (30, 45, 3)
    assert tuple(after['img_shape'][:2]) == (30, 45)
    assert after['scale_factor'] == pytest.approx((1.0, 1.0))
    if scope == 'mmdet':
        np.testing.assert_allclose(after['gt_bboxes'], before['gt_bboxes'] / 2, rtol=0, atol=1e-4)
    else:
        np.testing.assert_array_equal(after['gt_seg_map'], before['gt_seg_map'][::2, ::2])


def test_another_resize(scope):
    shrink = ShrinkForStudent(1.5, resize=dict(type=f'{scope}.Resize', keep_ratio=True, interpolation='nearest'))
    assert shrink(results(scope))['img'].shape == (40, 60, 3)


@pytest.mark.parametrize('factor', [1, 0.5, 0, -2, float('inf'), float('nan')])
def test_a_factor_that_does_not_shrink(factor):
    with pytest.raises(ValueError, match=r'^pipeline\.ShrinkForStudent\.factor must be (above 1|finite), got'):
        ShrinkForStudent(factor)


def test_a_flipped_image_becomes_a_tensor(scope):
    own = results(scope)
    own['img'] = np.flip(own['img'], axis=1)
    kept = TRANSFORMS.build(dict(type='kddense.ShrinkForStudent', factor=2))(own)['teacher_img']
    assert torch.from_numpy(kept).shape == (60, 90, 3)


@pytest.mark.parametrize('input_scale', [1.0, 3.0])
def test_a_kept_image_of_another_scale_is_refused(input_scale):
    hint = dict(hint=dict(type='kddense.HintObjective'))
    teacher = tiny.teacher_of(tiny.faster_rcnn(width=16), input_scale=input_scale)
    model = tiny.distiller(tiny.faster_rcnn(), teacher, hint)
    data = tiny.detection_data()
    for image, sample in zip(data['inputs'], data['data_samples'], strict=True):
        large = np.zeros((2 * image.shape[1], 2 * image.shape[2], 3), dtype=np.uint8)
        sample.set_metainfo(dict(teacher_img=large))
    with pytest.raises(ValueError, match=r'teacher.input_scale is \d, but the image kept for it is of'):
        tiny.step(model, data)
