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

from ...helpers import mask_models, segmentors, tiny


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

    classes = logits.argmax(0, keepdim=True)
    return SegDataSample(seg_logits=PixelData(data=logits), pred_sem_seg=PixelData(data=classes))


def predicted(model, logits):
    """Return the data sample that a segmentor makes of what its head predicts, ``(C, H, W)``."""
    (sample,) = model.postprocess_result(logits[None])
    return sample


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


def test_what_lies_in_a_crowd_raises_no_least_score():
    """COCO divides by the predicted box there: the crowd is far larger than each of those."""
    true = [dict(bbox=[0, 0, 4, 4], bbox_label=0), dict(bbox=[10, 0, 90, 60], bbox_label=0, ignore_flag=1)]
    inside = [[10 + 10 * index, 5, 18 + 10 * index, 20] for index in range(8)]
    scores = [0.9 + index / 100 for index in range(8)]
    alone = boxes_of([[0, 0, 4, 4]], [0.6], [0])
    among = boxes_of([*inside, [0, 0, 4, 4]], [*scores, 0.6], [0] * 9)
    for found in (alone, among):
        assert Boxes(['person']).choose([(found, true)], 0.9) == dict(person=pytest.approx(0.6))
    half_outside = boxes_of([[4, 0, 14, 10], [0, 0, 4, 4]], [0.7, 0.6], [0, 0])  # 4 of its 10 columns are in the crowd
    assert Boxes(['person']).choose([(half_outside, true)], 0.9) == dict(person=None)


def test_a_true_box_in_a_crowd_is_found():
    true = [dict(bbox=[0, 0, 90, 60], bbox_label=0, ignore_flag=1), dict(bbox=[10, 10, 20, 20], bbox_label=0)]
    found = boxes_of([[10, 10, 20, 18], [10, 10, 20, 17]], [0.8, 0.7], [0, 0])  # the second is one of the crowd
    assert Boxes(['person']).choose([(found, true)], 1.0) == dict(person=pytest.approx(0.8))


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


@pytest.mark.parametrize('least', [0.0, 0.5])
def test_the_score_of_one_sigmoid_is_that_of_the_class_it_decides_for(least):
    changes = {'decode_head.out_channels': 1, 'decode_head.threshold': 0.5}
    model = tiny.build(tiny.segmentor('pspnet_r50-d8', changes, classes=2), scope='mmseg')
    family = family_of(model, ['other', 'road'])
    sample = predicted(model, torch.tensor([[[4.0, -4.0, 6.0, -6.0, 0.5]]]))
    files = family.files(sample, 'x.png', dict(other=least, road=least))
    assert image_of(files['labels/x.png']).tolist() == [[1, 0, 1, 0, 1]]
    expected = torch.tensor([4.0, 4.0, 6.0, 6.0, 0.5]).sigmoid().mul(256).floor()
    assert image_of(files['scores/x.png']).tolist() == [expected.tolist()]

    chosen = family.choose([(sample, np.array([[1, 0, 1, 0, 0]]))], 1.0)
    assert chosen == dict(other=251 / 256, road=251 / 256)


def test_scores_of_several_sigmoids_are_each_ones_own():
    model = tiny.build(segmentors.fast_scnn(classes=3), scope='mmseg')
    logits = torch.tensor([[[4.0, -2.0]], [[3.9, -3.0]], [[-5.0, -9.0]]])
    files = family_of(model, ['sky', 'road', 'tree']).files(
        predicted(model, logits), 'x.png', dict(sky=0.5, road=0.5, tree=0.5)
    )
    assert image_of(files['labels/x.png']).tolist() == [[0, 255]]
    assert image_of(files['scores/x.png']).tolist() == [torch.tensor([4.0, -2.0]).sigmoid().mul(256).floor().tolist()]


@pytest.mark.parametrize('config', [mask_models.mask_segmentor, mask_models.old_mask_segmentor])
def test_scores_of_queries_are_taken_as_they_are(config):
    """Their sums of softmax times sigmoid lie in about 0..1: a softmax would squeeze them."""
    model = tiny.build(config(), scope='mmseg')
    sums = torch.zeros(model.num_classes, 1, 3)
    sums[:2, 0] = torch.tensor([[0.95, 0.3, 1.2], [0.02, 0.6, 0.0]])
    classes = [f'class {index}' for index in range(model.num_classes)]
    family = family_of(model, classes)
    files = family.files(predicted(model, sums), 'x.png', dict.fromkeys(classes, 0.9))
    assert image_of(files['labels/x.png']).tolist() == [[0, 255, 0]]
    assert image_of(files['scores/x.png']).tolist() == [[243, 153, 255]]


def test_scores_of_san_are_taken_as_they_are():
    from mmseg.models.decode_heads.san_head import SideAdapterCLIPHead

    model = tiny.build(tiny.segmentor('pspnet_r50-d8', classes=2), scope='mmseg')
    model.decode_head = SideAdapterCLIPHead.__new__(SideAdapterCLIPHead)  # without CLIP
    sample = predicted(model, torch.tensor([[[0.9]], [[0.2]]]))
    files = family_of(model, ['sky', 'road']).files(sample, 'x.png', dict(sky=0.5, road=0.5))
    assert image_of(files['scores/x.png']).tolist() == [[230]]


def test_a_mask_head_predicts_what_is_written():
    model = tiny.build(mask_models.mask_segmentor(), scope='mmseg').eval()
    data = tiny.segmentation_data(count=1)
    with torch.no_grad():
        (sample,) = model.test_step(data)
    classes = [f'class {index}' for index in range(model.num_classes)]
    files = family_of(model, classes).files(sample, 'x.png', dict.fromkeys(classes, 0.0))
    expected = sample.seg_logits.data.max(0).values.mul(256).floor().clamp(0, 255)
    np.testing.assert_array_equal(image_of(files['scores/x.png']), expected.numpy())
    assert expected.unique().numel() > 1


def test_several_scores_that_a_softmax_reads():
    model = tiny.build(tiny.segmentor('pspnet_r50-d8', classes=2), scope='mmseg')
    logits = torch.tensor([[[2.0]], [[1.0]]])
    files = family_of(model, ['sky', 'road']).files(predicted(model, logits), 'x.png', dict(sky=0.5, road=0.5))
    assert image_of(files['scores/x.png']).tolist() == [[int(logits.softmax(0)[0] * 256)]]


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
