"""Data sets that say their names: labels by the student's numbers, what the labels tell of."""

from __future__ import annotations

import json

import pytest
from mmengine.registry import DATASETS, DefaultScope

from kddense.datasets import NamedDataset

CLASSES = ('red', 'white', 'plate')


@pytest.fixture
def coco(toy_data, tmp_path):
    """Return a function that gives the config of a data set with some of three classes, the last of them first."""
    images = [dict(id=number, file_name=f'{number}.png', height=64, width=64) for number in range(2)]
    boxes = [
        dict(id=number, image_id=number % 2, category_id=one, bbox=[4, 4, 20, 20], area=400, iscrowd=0)
        for number, one in enumerate((1, 2, 3, 3))
    ]
    categories = [dict(id=number, name=name) for number, name in enumerate(CLASSES, 1)]
    file = tmp_path / 'boxes.json'
    file.write_text(json.dumps(dict(images=images, annotations=boxes, categories=categories)))

    def config(*classes):
        pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
        return dict(
            type='CocoDataset',
            ann_file=str(file),
            data_prefix=dict(img=str(toy_data / 'images')),
            metainfo=dict(classes=classes),
            pipeline=[*pipeline, dict(type='PackDetInputs')],
        )

    with DefaultScope.overwrite_default_scope('mmdet'):
        yield config


def labels_of(data):
    return [data[index]['data_samples'].gt_instances.labels.tolist() for index in range(len(data))]


def test_labels_are_numbered_as_the_students_classes(coco):
    data = NamedDataset(coco('white', 'plate'), 'pale', classes=CLASSES)
    assert labels_of(data) == [[2], [1, 2]]
    for index in range(2):
        meta = data[index]['data_samples'].metainfo
        assert (meta['dataset'], meta['labelled_classes']) == ('pale', (1, 2))
    assert data.metainfo == dict(classes=CLASSES)


def test_one_with_all_classes_tells_of_all(coco):
    """Its name alone is added, and its own metainfo stays."""
    for classes in (None, CLASSES):
        data = NamedDataset(coco(*CLASSES), 'all', classes)
        assert labels_of(data) == [[0, 2], [1, 2]]
        meta = data[0]['data_samples'].metainfo
        assert meta['dataset'] == 'all'
        assert 'labelled_classes' not in meta
    assert 'palette' in NamedDataset(coco(*CLASSES), 'all').metainfo


@pytest.mark.parametrize('scope', ['mmdet', 'mmengine'])
def test_several_make_one(coco, scope):
    parts = [
        dict(type='kddense.NamedDataset', called=name, classes=CLASSES, dataset=coco(*classes))
        for name, classes in (('red', ['red']), ('pale', ['white', 'plate']))
    ]
    data = DATASETS.build(dict(type=f'{scope}.ConcatDataset', datasets=parts))
    assert data.metainfo['classes'] == CLASSES
    assert [data[index]['data_samples'].dataset for index in range(len(data))] == ['red', 'red', 'pale', 'pale']
    assert data.get_data_info(1)['width'] == 64, 'which samplers of mmdet ask for'


def test_images_without_labels_have_a_name_too(toy_data):
    images = dict(
        type='kddense.UnlabelledImages', images=str(toy_data / 'images'), pipeline=[dict(type='mmdet.PackDetInputs')]
    )
    meta = NamedDataset(images, 'frames', classes=CLASSES)[0]['data_samples'].metainfo
    assert meta['dataset'] == 'frames'
    assert meta['unlabelled']


def test_pixels_are_not_numbered_anew(segmentor):
    config = segmentor.plain().train_dataloader.dataset
    with DefaultScope.overwrite_default_scope('mmseg'):
        classes = DATASETS.build(config).metainfo['classes']
        data = NamedDataset(config, 'streets', classes=[*classes, 'more'])
        with pytest.raises(
            ValueError, match=r'^train_dataloader.dataset.classes numbers the labels of boxes anew, not of'
        ):
            data[0]


def test_what_does_not_fit_is_one_sentence(coco):
    with pytest.raises(
        ValueError, match=r"^train_dataloader.dataset.classes must hold all .*, 'plate' is none of .*'plates'"
    ):
        NamedDataset(coco('red', 'plate'), 'x', classes=['red', 'plates'])
    bare = coco('red')
    bare['pipeline'] = bare['pipeline'][:-1]
    with pytest.raises(ValueError, match=r'^train_dataloader.dataset.dataset.pipeline gives no data samples'):
        NamedDataset(bare, 'x')[0]
