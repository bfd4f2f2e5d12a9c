"""What families write and choose, of made-up predictions: masks, scores that are right, sigmoid segmentors, odd depths."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData, PixelData
from PIL import Image
from torch import nn

from kddense.apps.label.families import Boxes, Depths, Pixels, family_of


def boxes_of(boxes, scores, labels, masks=None):
    from mmdet.structures import DetDataSample

    found = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        scores=torch.tensor(scores),
        labels=torch.tensor(labels),
    )
    if masks is not None:
        found.masks = masks
    return DetDataSample(metainfo=dict(ori_shape=(8, 10)), pred_instances=found)


def pixels_of(logits):
    from mmseg.structures import SegDataSample

    classes = (logits > 0).long() if len(logits) == 1 else logits.argmax(0, keepdim=True)
    return SegDataSample(seg_logits=PixelData(data=logits), pred_sem_seg=PixelData(data=classes))


def image_of(data):
    return np.array(Image.open(io.BytesIO(data)))


def test_masks_are_kept(tmp_path):
    from pycocotools import mask as coco

    mask = torch.zeros(1, 8, 10, dtype=torch.bool)
    mask[0, 2:5, 3:7] = True
    family = Boxes(['cat'])
    (file,) = (files := family.files(boxes_of([[3, 2, 7, 5]], [0.9], [0], mask), 'a/1.jpg', {})).items()
    assert file[0] == 'records/a/1.json'
    (tmp_path / 'records/a').mkdir(parents=True)
    (tmp_path / file[0]).write_bytes(files[file[0]])
    gathered = json.loads(family.gather(tmp_path, ['a/1.jpg'], dict(cat=0.5))['annotations.json'])
    (one,) = gathered['annotations']
    assert (coco.decode(one['segmentation']) == mask[0].numpy()).all()
    assert one['bbox'] == [3, 2, 4, 3]
    assert gathered['images'] == [dict(id=1, file_name='a/1.jpg', height=8, width=10)]


def test_the_least_score_of_a_class_is_by_its_own_boxes():
    true = [dict(bbox=[0, 0, 4, 4], bbox_label=0), dict(bbox=[5, 0, 9, 4], bbox_label=1, ignore_flag=1)]
    found = boxes_of(
        [[0, 0, 4, 4], [0, 0, 4, 3], [5, 5, 9, 8], [5, 0, 9, 4], [0, 5, 4, 8]],
        [0.9, 0.8, 0.4, 0.95, 0.3],
        [0, 0, 0, 1, 2],
    )
    chosen = Boxes(['cat', 'dog', 'cow']).choose([(found, true)], 1.0)
    # The second cat is of the same true one; the only dog is of one that is ignored; there is no cow.
    assert chosen == dict(cat=pytest.approx(0.9), dog=None, cow=None)
    assert Boxes(['cat', 'dog', 'cow']).choose([(found, true)], 0.5)['cat'] == pytest.approx(0.8)


def test_pixels_below_the_least_score_are_left_out():
    logits = torch.tensor([[[3.0, 0.1], [0.0, -3.0]], [[0.0, 0.0], [4.0, 0.0]]])
    files = Pixels(['sky', 'road']).files(pixels_of(logits), 'x.png', dict(sky=0.9, road=None))
    assert list(files) == ['scores/x.png', 'labels/x.png'], 'the labels say that an image is done'
    assert image_of(files['labels/x.png']).tolist() == [[0, 255], [255, 255]]
    expected = np.floor(logits.softmax(0).max(0).values.numpy() * 256)
    np.testing.assert_array_equal(image_of(files['scores/x.png']), expected)


@pytest.mark.parametrize('least', [0.998, 0.999, 1.0])
def test_sure_pixels_are_kept_whatever_the_least_score(least):
    logits = torch.tensor([[[30.0, 3.0]], [[0.0, 0.0]]])
    files = Pixels(['sky', 'road']).files(pixels_of(logits), 'x.png', dict(sky=least, road=least))
    assert image_of(files['labels/x.png']).tolist() == [[0, 255]]


def test_more_classes_than_8_bits_hold_are_refused():
    Pixels(list(map(str, range(255))))
    with pytest.raises(ValueError, match=r'^test_dataloader.dataset names 256 classes: label maps have 8 bits'):
        Pixels(list(map(str, range(256))))


def test_the_score_of_one_sigmoid_is_that_of_the_class_it_decides_for():
    files = Pixels(['other', 'road']).files(
        pixels_of(torch.tensor([[[4.0, -4.0]]])), 'x.png', dict(other=0.0, road=0.0)
    )
    assert image_of(files['labels/x.png']).tolist() == [[1, 0]]
    scores = image_of(files['scores/x.png'])[0]
    assert scores[0] == scores[1] > 240


def test_least_scores_of_pixels_by_what_is_true():
    logits = torch.zeros(2, 1, 4)
    logits[0, 0] = torch.tensor([4.0, 2.0, 1.0, 0.5])
    true = np.array([[0, 0, 1, 255]])
    family = Pixels(['sky', 'road'])
    strict, loose = (family.choose([(pixels_of(logits), true)], share) for share in (1.0, 0.6))
    assert strict['sky'] == pytest.approx(logits[:, 0, 1].softmax(0)[0].item(), abs=1 / 256)
    assert loose['sky'] == pytest.approx(logits[:, 0, 2].softmax(0)[0].item(), abs=1 / 256)
    assert strict['road'] is None
    with pytest.raises(
        ValueError, match=r'^val_dataloader: its labels are of \(2, 4\) and the predictions of \(1, 4\)'
    ):
        family.choose([(pixels_of(logits), np.zeros((2, 4)))], 0.5)


def test_validation_images_without_labels():
    with pytest.raises(ValueError, match=r'^val_dataloader.dataset.pipeline loads no labels, .* or give --threshold'):
        Pixels(['sky']).truth([dict(data_samples=pixels_of(torch.zeros(2, 1, 1)))], 0)


def test_depth_that_is_none_or_beyond_the_levels_is_0():
    from mmseg.structures import SegDataSample

    depth = torch.tensor([[[1.2345, torch.nan, torch.inf, -1.0, 65.535, 90.0]]])
    sample = SegDataSample(pred_depth_map=PixelData(data=depth))
    family = Depths()
    assert family.told() == ''
    assert image_of(family.files(sample, 'x.png', {})['depth/x.png']).tolist() == [[1234, 0, 0, 0, 65535, 0]]
    assert family.told().startswith('1 pixels lie beyond 65.535 m, the greatest depth at 1000 levels per metre')
    fewer = Depths(256)
    assert image_of(fewer.files(sample, 'x.png', {})['depth/x.png']).tolist() == [[316, 0, 0, 0, 16777, 23040]]
    assert fewer.told() == ''


def test_other_models_are_refused():
    with pytest.raises(ValueError, match='^model is a Linear: only detectors, segmentors and depth estimators label'):
        family_of(nn.Linear(1, 1), ['a'])
