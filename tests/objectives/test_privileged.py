"""Privileged teachers: of every family, with the clean image behind the student's."""

from __future__ import annotations

import numpy as np
import pytest

from kddense import DegradeForStudent

from ..helpers import detectors, plugins, tiny


@pytest.mark.parametrize(
    'model, scope, data',
    [
        (tiny.segmentor('pspnet_r50-d8'), 'mmseg', tiny.segmentation_data()),
        (detectors.one_stage('fcos'), 'mmdet', tiny.detection_data()),
        (tiny.faster_rcnn(), 'mmdet', tiny.detection_data()),
    ],
    ids=['pixels', 'places', 'rois'],
)
def test_the_teacher_sees_the_clean_image(model, scope, data):
    imitation = dict(type='kddense.PrivilegedObjective', temperature=2.0)
    teacher = tiny.teacher_of(model, scope, image='teacher_img')
    config = dict(type='kddense.Distiller', student=model, teacher=teacher, objectives=dict(i=imitation))
    built = tiny.build(config, scope=scope)
    for number, sample in enumerate(data['data_samples']):
        size = sample.metainfo.get('img_shape', data['inputs'][number].shape[-2:])[:2]
        sample.set_metainfo(dict(teacher_img=np.full((*size, 3), 7, np.uint8)))
    seen = []
    backbone = built.teachers['teacher'].model.backbone
    backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    assert plugins.gradients(built, data)
    assert float(seen[0][0, 0, :8, :8].std()) == 0, 'one grey value'
    plugins.train(built, data)


def test_degrading_keeps_the_clean_image():
    image = np.tile(np.arange(32, dtype=np.uint8) * 8, (32, 1))[..., None].repeat(3, 2)
    found = DegradeForStudent(noise=20.0, blur=1.0)(dict(img=image.copy(), img_path='a.png'))
    assert np.array_equal(found['teacher_img'], image)
    assert found['img'].dtype == np.uint8
    difference = found['img'].astype(float) - image
    assert 10 < difference[8:-8, 8:-8].std() < 30


def test_a_fixed_one_is_of_the_path_alone():
    image = np.full((16, 16, 3), 100, np.uint8)
    degrade = DegradeForStudent(noise=20.0, blur=0.0, fixed=True)
    one, same, other = (degrade(dict(img=image, img_path=path))['img'] for path in ('a', 'a', 'b'))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    state = np.random.get_state()[1].copy()
    degrade(dict(img=image, img_path='c'))
    assert np.array_equal(state, np.random.get_state()[1])


@pytest.mark.parametrize(
    'options, sentence',
    [(dict(noise=-1.0), 'noise must be at least 0'), (dict(noise=0.0, blur=0.0), 'noise and blur are both 0')],
)
def test_bad_options(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        DegradeForStudent(**options)
