"""LoadTeacherImage: the file that belongs to the student's image, moved as it is."""

import mmcv
import numpy as np
import pytest
from mmengine.registry import DefaultScope

import kddense
from kddense import LoadTeacherImage
from kddense.registry import TRANSFORMS

from ..helpers import tiny

DEPTH = (np.arange(48, dtype=np.uint16) * 1000).reshape(6, 8)


@pytest.fixture
def files(tmp_path):
    (tmp_path / 'images').mkdir()
    (tmp_path / 'depth').mkdir()
    mmcv.imwrite(np.arange(144, dtype=np.uint8).reshape(6, 8, 3), str(tmp_path / 'images' / 'a.jpg'))
    mmcv.imwrite(DEPTH, str(tmp_path / 'depth' / 'a.png'))
    return tmp_path


@pytest.fixture
def load():
    return LoadTeacherImage(replace=('images/', 'depth/'), suffix='.png')


def results(files):
    return dict(
        img_path=str(files / 'images' / 'a.jpg'), img=np.arange(48, dtype=np.uint8).reshape(6, 8), img_shape=(6, 8)
    )


def test_every_bit_of_it_arrives(files, load):
    loaded = load(results(files))['teacher_img']
    assert loaded.dtype == np.uint16
    assert (loaded == DEPTH).all()


def test_both_images_are_moved_alike(files, load):
    import mmseg.datasets.transforms  # noqa: F401

    moves = [dict(type='RandomFlip', prob=0.5), dict(type='RandomCrop', crop_size=(4, 4))]
    with DefaultScope.overwrite_default_scope('mmseg'):
        transform = TRANSFORMS.build(dict(type='kddense.MoveTogether', transforms=moves))
    seen = set()
    for _ in range(12):
        one = load(results(files))
        one.update(gt_seg_map=np.arange(48, dtype=np.uint8).reshape(6, 8), seg_fields=['gt_seg_map'])
        one = transform(one)
        assert (one['img'].astype(int) * 1000 == one['teacher_img']).all()
        assert (one['img'] == one['gt_seg_map']).all()
        assert (one['img'].dtype, one['teacher_img'].dtype) == (np.uint8, np.uint16)
        seen.add(int(one['img'][0, 0]))
    assert len(seen) > 1


def test_what_is_missing_is_named(files, load):
    (files / 'depth' / 'a.png').unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.jpg' has no file '.*depth/a\.png' for the teacher"):
        load(results(files))
    with pytest.raises(ValueError, match=r"there is no 'images/' in the path of the image 'other\.jpg'"):
        load(dict(img_path='other.jpg'))
    with pytest.raises(ValueError, match=r'^pipeline\.LoadTeacherImage\.replace must be a list of 2 texts'):
        LoadTeacherImage(replace='images')


def test_a_teacher_of_one_channel_is_given_it(files, load):
    one = {'backbone.in_channels': 1, 'data_preprocessor.mean': [9.0], 'data_preprocessor.std': [2.0]}
    config = tiny.segmentor('pspnet_r50-d8', {**one, 'data_preprocessor.bgr_to_rgb': False})
    teacher = kddense.FrozenTeacher(**tiny.teacher_of(config, 'mmseg', image='teacher_img'))
    data = tiny.segmentation_data(size=(6, 8), count=1)
    data['data_samples'][0].set_metainfo(dict(teacher_img=load(results(files))['teacher_img']))
    student = tiny.build(tiny.segmentor('pspnet_r50-d8'), scope='mmseg').data_preprocessor
    images, covered = teacher.images.of(kddense.exchange.Batch(**student(data, True)))
    assert covered == (32, 32)
    assert images.shape == (1, 1, 32, 32)
    assert (images[0, 0, :6, :8].numpy() == (DEPTH.astype('float32') - 9) / 2).all()


def test_boxes_move_with_both(files, load):
    import mmdet.datasets.transforms  # noqa: F401

    with DefaultScope.overwrite_default_scope('mmdet'):
        transform = TRANSFORMS.build(dict(type='kddense.MoveTogether', transforms=[dict(type='RandomFlip', prob=1.0)]))
    moved = transform(dict(load(results(files)), gt_bboxes=np.array([[0.0, 0.0, 2.0, 3.0]], np.float32)))
    assert moved['gt_bboxes'].tolist() == [[6.0, 0.0, 8.0, 3.0]]
    assert (moved['teacher_img'] == DEPTH[:, ::-1]).all()


def test_images_of_two_sizes_are_not_moved(files, load):
    one = dict(load(results(files)), img=np.zeros((3, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"is of \(3, 4\), its 'teacher_img' of \(6, 8\): they must be of one size"):
        kddense.MoveTogether([dict(type='mmcv.RandomFlip', prob=0.0)])(one)


def test_a_teacher_may_be_told_to_look_at_the_students_image():
    model, ways = tiny.segmentor('pspnet_r50-d8'), (dict(input_scale=2.0), dict(image='student'))
    large, small = (kddense.FrozenTeacher(**tiny.teacher_of(model, 'mmseg', **one)) for one in ways)
    data = tiny.segmentation_data(size=(64, 64), count=1)
    data['data_samples'][0].set_metainfo(dict(teacher_img=np.zeros((128, 128, 3), np.uint8)))
    batch = kddense.exchange.Batch(**small.model.data_preprocessor(data, True), image_format=small.image_format)
    assert large.images.of(batch)[0].shape[-2:] == (128, 128)
    assert small.images.of(batch)[0] is batch.inputs
