"""Batches in a mirror: each image inside its own size, and its labels with it."""

import numpy as np
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import PolygonMasks

from kddense.exchange import Batch
from kddense.objectives._mirrored import mirrored, mirrored_images

from ..helpers import tiny


def detections():
    model = tiny.build(tiny.faster_rcnn())
    return Batch(**model.data_preprocessor(tiny.detection_data(masks=True), True))


def test_images_are_mirrored_inside_their_padding():
    batch = detections()
    height, width = batch.data_samples[1].img_shape
    assert width < batch.inputs.shape[-1]
    other = mirrored(batch)
    assert torch.equal(other.inputs[1, :, :height, :width], batch.inputs[1, :, :height, :width].flip(-1))
    assert torch.equal(other.inputs[1, :, :, width:], batch.inputs[1, :, :, width:])
    assert torch.equal(other.inputs[1, :, height:], batch.inputs[1, :, height:])
    assert torch.equal(mirrored_images(other.inputs, other.data_samples), batch.inputs)


def test_boxes_and_masks_go_along():
    batch = detections()
    for own, other in zip(batch.data_samples, mirrored(batch).data_samples, strict=True):
        width = own.img_shape[1]
        expected = own.gt_instances.bboxes.clone()
        expected[:, [0, 2]] = width - expected[:, [2, 0]]
        assert torch.equal(other.gt_instances.bboxes, expected)
        assert torch.equal(torch.as_tensor(own.gt_instances.labels), other.gt_instances.labels)
        for mask, box in zip(other.gt_instances.masks.masks, expected, strict=True):
            rows, columns = np.nonzero(mask)
            assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == box.int().tolist()


def test_box_types_and_polygons_go_along():
    batch = detections()
    sample = batch.data_samples[1]
    width = sample.img_shape[1]
    before = sample.gt_instances.bboxes.clone()
    sample.gt_instances.bboxes = HorizontalBoxes(before)
    polygons = [[np.array([1.0, 2, 5, 2, 5, 9])]] * len(before)
    sample.gt_instances.masks = PolygonMasks(polygons, *batch.inputs.shape[-2:])
    other = mirrored(batch).data_samples[1].gt_instances
    assert torch.equal(other.bboxes.tensor[:, 0], width - before[:, 2])
    assert other.masks.masks[0][0].tolist() == [width - 1, 2, width - 5, 2, width - 5, 9]
    assert torch.equal(sample.gt_instances.bboxes.tensor, before), 'the batch itself stays'


def test_maps_of_labels_go_along():
    model = tiny.build(tiny.segmentor('pspnet_r50-d8'), scope='mmseg')
    batch = Batch(**model.data_preprocessor(tiny.segmentation_data((64, 48)), True))
    own, other = batch.data_samples[0].gt_sem_seg.data, mirrored(batch).data_samples[0].gt_sem_seg.data
    assert torch.equal(other[..., :48], own[..., :48].flip(-1))
    assert torch.equal(other[..., 48:], own[..., 48:])
