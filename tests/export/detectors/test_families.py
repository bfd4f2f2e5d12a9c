"""Every family's file finds what mmdet finds, in batches of images of other sizes than it was exported with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample

from kddense.export.agreement import detections_in
from kddense.export.onnx import OnnxOptions, write_onnx
from kddense.export.onnx_file import OnnxFile

from ...helpers import detectors, stock_models, tiny

SIZE = (96, 128)


def images_of(size, count):
    """Return smooth images, normalised."""
    return torch.stack([(tiny.image(*size, seed=seed).float() - 120) / 58 for seed in range(count)])


def run(file, **given):
    onnxruntime = pytest.importorskip('onnxruntime')
    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    found = session.run(None, {name: value.numpy() for name, value in given.items()})
    return dict(zip(names, map(torch.from_numpy, found), strict=True))


def predicted(model, images, sizes):
    shapes = [tuple(map(int, size)) for size in sizes]
    metas = [dict(img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0)) for shape in shapes]
    samples = [DetDataSample(metainfo=meta) for meta in metas]
    with torch.no_grad():
        return [sample.pred_instances for sample in model.predict(images, samples, rescale=False)]


@pytest.mark.parametrize('family', detectors.FAMILIES)
def test_boxes_scores_and_labels_are_mmdets(family, tmp_path):
    pytest.importorskip('onnxruntime')
    model = detectors.outspoken(detectors.FAMILIES[family]())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = write_onnx(model, tmp_path / 'whole.onnx', OnnxOptions(SIZE, padded=True), {})
    assert [file.name for file in tmp_path.iterdir()] == ['whole.onnx']
    assert report.outputs == ('boxes', 'scores', 'labels')
    assert report.dynamic == ('batch', 'height', 'width')
    assert report.detections.same == report.detections.number
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    images, sizes = images_of((128, 160), 3), torch.tensor([[128.0, 160.0], [120.0, 111.0], [99.0, 160.0]])
    found = run(tmp_path / 'whole.onnx', images=images, sizes=sizes)
    for boxes, scores, labels, own in zip(*found.values(), predicted(model, images, sizes), strict=True):
        kept = labels >= 0
        assert len(own) > 4
        torch.testing.assert_close(scores[kept], own.scores, rtol=0, atol=1e-4)
        assert sorted(labels[kept].tolist()) == sorted(own.labels.tolist())
        near = (boxes[kept][:, None] - own.bboxes).abs().amax(dim=-1) < 1e-3
        near &= (scores[kept][:, None] - own.scores).abs() < 1e-4
        near &= labels[kept][:, None] == own.labels  # equal scores may change places
        assert near.any(dim=0).all()
        assert near.any(dim=1).all()
        assert not boxes[~kept].any()
        assert not scores[~kept].any()


@pytest.mark.parametrize('family', ['fcos', 'faster_rcnn'])
def test_before_suppression(family, tmp_path):
    """All that mmdet finds is among the boxes, each class with its scores."""
    pytest.importorskip('onnxruntime')
    model = detectors.outspoken(detectors.FAMILIES[family]())
    report = write_onnx(model, tmp_path / 'raw.onnx', OnnxOptions(SIZE, 'raw', 'none'), {})
    assert report.outputs == ('boxes', 'scores')
    assert report.dynamic == ()
    images = images_of(SIZE, 1)
    boxes, scores = run(tmp_path / 'raw.onnx', images=images).values()
    (own,) = predicted(model, images, [SIZE])
    assert len(own) > 4
    assert scores.shape[2] == 3
    each = boxes[0] if family == 'faster_rcnn' else boxes[0][:, None].expand(-1, 3, -1)
    for box, score, label in zip(own.bboxes, own.scores, own.labels, strict=True):
        near = (each[:, label] - box).abs().amax(dim=1) < 1e-3
        assert ((scores[0, :, label] - score).abs()[near] < 1e-4).any()


def test_an_image_without_padding_needs_no_size(tmp_path):
    pytest.importorskip('onnxruntime')
    model = detectors.outspoken(detectors.FAMILIES['gfl']())
    write_onnx(model, tmp_path / 'whole.onnx', OnnxOptions(SIZE), {})
    images = images_of((64, 96), 2)
    found = run(tmp_path / 'whole.onnx', images=images)
    number = [len(own) for own in predicted(model, images, [(64, 96)] * 2)]
    assert (found['labels'] >= 0).sum(dim=1).tolist() == number
    assert found['boxes'].numpy().max(axis=(0, 1)).tolist() <= [96, 64, 96, 64]


@pytest.mark.parametrize('dynamic, axes', [('batch', ('batch',)), ('none', ())])
def test_only_what_is_asked_for_varies(dynamic, axes, tmp_path):
    pytest.importorskip('onnxruntime')
    model = detectors.outspoken(detectors.FAMILIES['faster_rcnn']())
    report = write_onnx(model, tmp_path / 'whole.onnx', OnnxOptions(SIZE, dynamic=dynamic), {})
    assert report.dynamic == axes
    assert report.limit == ''
    file = OnnxFile(tmp_path / 'whole.onnx')
    assert file.shape == (None if axes else 1, 3, *SIZE)
    images = images_of(SIZE, 3 if axes else 1)
    found = [len(rows.labels) for rows in detections_in(file(images))]
    assert found == [len(own) for own in predicted(model, images, [SIZE] * len(images))]


def test_nothing_found_is_no_row(tmp_path):
    pytest.importorskip('onnxruntime')
    model = tiny.build(detectors.one_stage('retinanet', {'test_cfg.score_thr': 1.0})).eval()
    report = write_onnx(model, tmp_path / 'whole.onnx', OnnxOptions(SIZE), {})
    assert report.detections.number == 0
    found = run(tmp_path / 'whole.onnx', images=images_of(SIZE, 1))
    assert (found['labels'] == -1).all()
    assert not found['scores'].any()
    assert not found['boxes'].any()


def stock(path):
    return lambda: stock_models.small_model(f'mmdet::{path}')


@pytest.mark.parametrize(
    'config, message',
    [
        (
            lambda: detectors.FAMILIES['fcos']({'test_cfg.nms.type': 'soft_nms'}),
            r"model\.test_cfg\.nms: ONNX has plain .*'soft_nms'",
        ),
        (
            lambda: tiny.faster_rcnn({'test_cfg.rpn.nms.max_num': 7}),
            r'model\.test_cfg\.rpn\.nms: ONNX has plain .*, not max_num',
        ),
        (
            lambda: tiny.faster_rcnn({'roi_head.bbox_roi_extractor.type': 'GenericRoIExtractor'}),
            'GenericRoIExtractor as bbox_roi_extractor cannot be exported, SingleRoIExtractor can',
        ),
        (
            lambda: tiny.faster_rcnn({'roi_head.bbox_roi_extractor.roi_layer.pool_mode': 'max'}),
            "RoIAlign with pool_mode='max' cannot be exported",
        ),
        (
            lambda: tiny.faster_rcnn({'roi_head.bbox_head.bbox_coder.type': 'DeltaXYWHBBoxCoderForGLIP'}),
            'DeltaXYWHBBoxCoderForGLIP as bbox_coder cannot be exported, DeltaXYWHBBoxCoder can',
        ),
        (stock('yolox/yolox_tiny_8xb8-300e_coco.py'), 'YOLOXHead turns its maps to boxes in a way of its own'),
        (stock('tood/tood_r50_fpn_1x_coco.py'), 'TOODHead turns its maps to boxes in a way of its own'),
        (stock('detr/detr_r50_8xb2-150e_coco.py'), 'the boxes of DETR cannot be exported, those of Faster'),
    ],
)
def test_what_cannot_be_exported_is_told_by_name(config, message, tmp_path):
    pytest.importorskip('onnxruntime')
    with stock_models.weights_as_they_come():
        model = tiny.build(config()).eval()
    with pytest.raises(RuntimeError, match=f'^{message}[^\n]*--outputs (features|raw)[^\n]*$'):
        write_onnx(model, tmp_path / 'whole.onnx', OnnxOptions(SIZE), {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('outputs', ['results', 'features'])
@pytest.mark.parametrize(
    'config, named',
    [
        (stock('nas_fpn/retinanet_r50_nasfpn_crop640-50e_coco.py'), 'RetinaNet .*: NASFPN at neck needs sizes'),
        (stock('dyhead/atss_r50_fpn_dyhead_1x_coco.py'), r'ATSS .*: DyHead at neck\.1 needs deformable'),
        (stock('libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco.py'), r'FasterRCNN .*: BFP at neck\.1 needs adaptive'),
        (
            stock('carafe/faster-rcnn_r50_fpn-carafe_1x_coco.py'),
            r'FasterRCNN .*: CARAFEPack at neck\.upsample_modules\.0 needs reassembled',
        ),
        (
            stock('dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py'),
            r'FasterRCNN .*: DeformConv2dPack at backbone\.layer2\.0\.conv2 needs deformable',
        ),
    ],
)
def test_a_layer_that_no_file_holds_is_told_by_name(config, named, outputs, tmp_path):
    """With deformable convolutions, tracing would end the process."""
    with stock_models.weights_as_they_come():
        model = tiny.build(config()).eval()
    with pytest.raises(RuntimeError, match=f'^{named}[^\n]*$'):
        write_onnx(model, tmp_path / 'whole.onnx', OnnxOptions(SIZE, outputs), {})
    assert not list(tmp_path.iterdir())


def test_scores_that_a_loss_makes(tmp_path):
    seesaw = dict(_delete_=True, type='SeesawLoss', p=0.8, q=2.0, num_classes=3, loss_weight=1.0)
    model = tiny.build(tiny.faster_rcnn({'roi_head.bbox_head.loss_cls': seesaw}, {'roi_head.bbox_head.num_classes': 3}))
    with pytest.raises(RuntimeError, match='^SeesawLoss as loss_cls cannot be exported, its scores are its own'):
        write_onnx(model.eval(), tmp_path / 'whole.onnx', OnnxOptions(SIZE), {})


def test_boxes_before_soft_suppression(tmp_path):
    """What comes after them does not matter."""
    pytest.importorskip('onnxruntime')
    model = detectors.outspoken(detectors.FAMILIES['fcos']({'test_cfg.nms.type': 'soft_nms'}))
    report = write_onnx(model, tmp_path / 'raw.onnx', OnnxOptions(SIZE, 'raw'), {})
    assert np.isfinite(report.difference)
