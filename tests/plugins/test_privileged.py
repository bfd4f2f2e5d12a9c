"""Generalised distillation (Lopez-Paz et al. 2016): the teacher is given an image that the student never sees."""

import numpy as np
import pytest
import torch

from ..helpers import plugins, tiny

STUDENT = tiny.segmentor('pspnet_r50-d8')
SOFT = dict(type='kddense.FeatureObjective', tap='decode_head', loss=dict(type='kddense.HintonLoss'))


def teacher_of_channels(channels, mean=100.0, std=50.0):
    return tiny.edit(
        STUDENT,
        {
            'backbone.in_channels': channels,
            'data_preprocessor.type': tiny.preprocessor_of_many_channels(),
            'data_preprocessor.mean': [mean] * channels,
            'data_preprocessor.std': [std] * channels,
            'data_preprocessor.bgr_to_rgb': False,
        },
    )


def data_with(key, *images):
    data = tiny.segmentation_data()
    for sample, image in zip(data['data_samples'], images, strict=False):
        sample.set_metainfo({key: image})
    return data


def distiller(teacher, objectives=None):
    return tiny.distiller(STUDENT, teacher, objectives or dict(soft=SOFT), 'mmseg')


def seen_by(teacher):
    """Return a list that fills with what a teacher's backbone is given."""
    seen = []
    teacher.model.backbone.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    return seen


def ramp(channels, size=64, dtype=np.uint8):
    shape = (size, size, channels) if channels else (size, size)
    return (np.arange(np.prod(shape)) % 251).reshape(shape).astype(dtype)


CASES = {
    'depth': (1, ramp(1)),
    'depth without an axis of channels': (1, ramp(0)),
    'RGB and depth': (4, ramp(4)),
    'colours': (3, ramp(3)),
    'floats': (3, ramp(3, dtype=np.float32) / 7),
}


@pytest.mark.parametrize('case', list(CASES))
def test_the_teacher_sees_the_image_that_it_names_normalised_as_its_own(case):
    channels, image = CASES[case]
    model = distiller(tiny.teacher_of(teacher_of_channels(channels), 'mmseg', image='depth'))
    seen = seen_by(model.teachers['teacher'])
    data = data_with('depth', image, image[::-1].copy())
    plugins.train(model, data, steps=1)
    expected = torch.from_numpy(image.reshape(64, 64, channels).astype('float32')).permute(2, 0, 1)
    (images,) = seen
    torch.testing.assert_close(images[0], (expected - 100) / 50)
    torch.testing.assert_close(images[1], (expected.flip(1) - 100) / 50)
    assert 'backbone.layer1.0.conv1.weight' in plugins.gradients(model, data)
    plugins.assert_contracts(model, STUDENT, 'mmseg')


@pytest.mark.parametrize('channels', [1, 3])
def test_it_may_be_of_higher_resolution(channels):
    model = distiller(tiny.teacher_of(teacher_of_channels(channels), 'mmseg', image='fine', input_scale=2.0))
    seen = seen_by(model.teachers['teacher'])
    tiny.step(model, data_with('fine', *[ramp(channels, 128)] * 2))
    assert seen[0].shape == (2, channels, 128, 128)
    with pytest.raises(ValueError, match=r'teacher.input_scale is 2, but the image kept for it is of \(64, 64\) where'):
        tiny.step(model, data_with('fine', *[ramp(channels, 64)] * 2))


def test_no_other_teacher_is_given_it():
    teachers = dict(
        plain=tiny.teacher_of(STUDENT, 'mmseg'),
        depth=tiny.teacher_of(teacher_of_channels(1), 'mmseg', image='teacher_img'),
    )
    objectives = {name: dict(SOFT, teacher=name) for name in teachers}
    config = dict(type='kddense.Distiller', student=STUDENT, teacher=teachers, objectives=objectives)
    model = tiny.build(config, scope='mmseg')
    seen = {name: seen_by(one) for name, one in model.teachers.items()}
    data = data_with('teacher_img', *[ramp(1)] * 2)
    tiny.step(model, data)
    inputs = model.data_preprocessor(data, True)['inputs']
    assert torch.equal(seen['plain'][0], inputs)
    assert seen['depth'][0].shape == (2, 1, 64, 64)


def test_an_image_that_lacks_it_is_an_error():
    model = distiller(tiny.teacher_of(STUDENT, 'mmseg', image='clean'))
    with pytest.raises(
        ValueError, match="teacher.image is 'clean', but the image number 1 of the batch has none: let the"
    ):
        tiny.step(model, data_with('clean', ramp(3)))


def test_one_of_other_channels_is_an_error():
    model = distiller(tiny.teacher_of(teacher_of_channels(4), 'mmseg', image='rgbd'))
    with pytest.raises(ValueError, match="teacher takes 4 channels, the image under 'rgbd' has 3"):
        tiny.step(model, data_with('rgbd', *[ramp(3)] * 2))
    with pytest.raises(ValueError, match="teacher takes images of 4 channels, the student's have 3: name one of 4"):
        distiller(tiny.teacher_of(teacher_of_channels(4), 'mmseg'))


def test_a_teacher_of_low_precision_is_given_it_too():
    model = distiller(tiny.teacher_of(teacher_of_channels(1), 'mmseg', image='depth', precision='bf16'))
    seen = seen_by(model.teachers['teacher'])
    tiny.step(model, data_with('depth', *[ramp(1)] * 2))
    assert (seen[0].dtype, tuple(seen[0].shape)) == (torch.bfloat16, (2, 1, 64, 64))


def test_mmcvs_broadcaster_gives_both_images_one_geometry():
    """What a user writes in the pipeline, so that crops and flips are shared."""
    import mmseg.datasets.transforms  # noqa: F401
    from mmengine.registry import TRANSFORMS, DefaultScope

    broadcaster = dict(
        type='TransformBroadcaster',
        mapping=dict(img=['img', 'depth'], gt_seg_map=['gt_seg_map', 'unused']),
        auto_remap=True,
        share_random_params=True,
        transforms=[dict(type='RandomCrop', crop_size=(4, 4)), dict(type='RandomFlip', prob=0.5)],
    )
    with DefaultScope.overwrite_default_scope('mmseg'):
        transform = TRANSFORMS.build(broadcaster)
    corners = set()
    for _ in range(12):
        image = ramp(3, 8)
        maps = dict(gt_seg_map=image[..., 0].copy(), unused=image[..., 0].copy())
        results = transform(dict(img=image, depth=image.copy(), img_shape=(8, 8), seg_fields=['gt_seg_map'], **maps))
        assert np.array_equal(results['img'], results['depth'])
        assert np.array_equal(results['img'][..., 0], results['gt_seg_map'])
        corners.add(results['img'][0, 0, 0])
    assert len(corners) > 3
