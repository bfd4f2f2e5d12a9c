"""Tiny models of mmdet and mmseg, batches for them, and distillers of them: everything is built as a config would."""

from __future__ import annotations

import copy
import functools

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData, PixelData

import kddense
from kddense.registry import MODELS

UNTRAINED = dict(checkpoint=None)


@functools.cache
def _stock(path):
    return get_config(path).model


def edit(model, *changes):
    """Return a copy of a model's config with dotted keys set: ``{'rpn_head.loss_cls.use_sigmoid': False}``."""
    config = Config(dict(model=copy.deepcopy(model)))
    for change in changes:
        config.merge_from_dict({f'model.{key}': value for key, value in change.items()})
    return config.model


def backbone(name='resnet', width=8):
    """Return a backbone with strides 4, 8, 16, 32, and its channels."""
    if name == 'resnet':
        norm = dict(type='BN', requires_grad=True)
        config = dict(type='mmdet.ResNet', depth=18, base_channels=width, norm_cfg=norm, out_indices=(0, 1, 2, 3))
        return config, [width, 2 * width, 4 * width, 8 * width]
    if name == 'mobilenet':
        return dict(type='mmdet.MobileNetV2', widen_factor=0.25, out_indices=(1, 2, 4, 6)), [8, 8, 24, 80]
    if name == 'swin':
        config = dict(
            type='mmdet.SwinTransformer', embed_dims=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 4), window_size=4
        )
        return config, [16, 32, 64, 128]
    if name == 'vgg':
        return dict(type='kddense.VGG', depth=11), [128, 256, 512, 512]
    raise KeyError(name)


SMALL_TRAINING = {
    'train_cfg.rpn.sampler.num': 48,
    'train_cfg.rpn_proposal.nms_pre': 60,
    'train_cfg.rpn_proposal.max_per_img': 40,
    'test_cfg.rpn.nms_pre': 60,
    'test_cfg.rpn.max_per_img': 20,
}


def two_stage(stock, *changes, name='resnet', width=8, fpn=16):
    """Return a two-stage detector with an FPN, three classes and a narrow backbone."""
    config = _stock(f'mmdet::_base_/models/{stock}.py')
    layers, channels = backbone(name, width)
    head = {'in_channels': fpn, 'fc_out_channels': 32, 'num_classes': 3}
    heads = [head] * 3 if 'cascade' in stock else [head]
    single = 'cascade' not in stock
    tidy = {
        'neck.in_channels': channels,
        'neck.out_channels': fpn,
        'rpn_head.in_channels': fpn,
        'rpn_head.feat_channels': fpn,
        'rpn_head.anchor_generator.scales': [4],
        'roi_head.bbox_roi_extractor.out_channels': fpn,
        **SMALL_TRAINING,
    }
    for stage, one in enumerate(heads):
        where = 'roi_head.bbox_head' if single else f'roi_head.bbox_head.{stage}'
        tidy.update({f'{where}.{key}': value for key, value in one.items()})
        sampler = 'train_cfg.rcnn.sampler' if single else f'train_cfg.rcnn.{stage}.sampler'
        tidy[f'{sampler}.num'] = 32
    if 'mask' in stock:
        tidy.update(
            {
                'roi_head.mask_roi_extractor.out_channels': fpn,
                'roi_head.mask_head.num_convs': 1,
                'roi_head.mask_head.in_channels': fpn,
                'roi_head.mask_head.conv_out_channels': fpn,
                'roi_head.mask_head.num_classes': 3,
            }
        )
    config = edit(config, tidy)
    config.backbone = ConfigDict(layers)
    return edit(config, *changes)


def faster_rcnn(*changes, **options):
    return two_stage('faster-rcnn_r50_fpn', *changes, **options)


def mask_rcnn(*changes, **options):
    return two_stage('mask-rcnn_r50_fpn', *changes, **options)


def cascade_rcnn(*changes, **options):
    return two_stage('cascade-rcnn_r50_fpn', *changes, **options)


def c4(*changes, width=16):
    """Return Faster R-CNN as before FPN: one map, and the last stage of the ResNet as a head on every RoI."""
    norm = dict(type='BN', requires_grad=True)
    return edit(
        _stock('mmdet::_base_/models/faster-rcnn_r50-caffe-c4.py'),
        {
            'backbone.depth': 18,
            'backbone.base_channels': width,
            'backbone.frozen_stages': -1,
            'backbone.norm_cfg': norm,
            'backbone.init_cfg': None,
            'rpn_head.in_channels': 4 * width,
            'rpn_head.feat_channels': 16,
            'rpn_head.anchor_generator.scales': [1, 2],
            # ResLayer takes no width: an earlier stage stands in for the last
            'roi_head.shared_head.depth': 18,
            'roi_head.shared_head.stage': {16: 1, 32: 2}[width],
            'roi_head.shared_head.norm_cfg': norm,
            'roi_head.shared_head.init_cfg': None,
            'roi_head.bbox_roi_extractor.out_channels': 4 * width,
            'roi_head.bbox_roi_extractor.roi_layer.output_size': 6,
            'roi_head.bbox_head.in_channels': 8 * width,
            'roi_head.bbox_head.roi_feat_size': 3,
            'roi_head.bbox_head.num_classes': 3,
            'train_cfg.rcnn.sampler.num': 32,
            **SMALL_TRAINING,
        },
        *changes,
    )


def single_stage(stock, *changes, width=8, fpn=16):
    """Return RetinaNet, or FCOS for ``stock='fcos'``."""
    layers, channels = backbone('resnet', width)
    path = (
        '_base_/models/retinanet_r50_fpn.py' if stock == 'retinanet' else 'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'
    )
    config = edit(
        _stock(f'mmdet::{path}'),
        {
            'neck.in_channels': channels,
            'neck.out_channels': fpn,
            'bbox_head.in_channels': fpn,
            'bbox_head.feat_channels': 32,
            'bbox_head.stacked_convs': 1,
            'bbox_head.num_classes': 3,
            **({'bbox_head.norm_cfg': dict(type='GN', num_groups=4)} if stock == 'fcos' else {}),
        },
    )
    config.backbone = ConfigDict(layers)
    return edit(config, *changes)


def segmentor(stock, *changes, width=8, classes=5, head=16):
    """Return a segmentor of mmseg on a narrow ResNet-18 with strides 4, 8, 8, 8."""
    config = copy.deepcopy(_stock(f'mmseg::_base_/models/{stock}.py'))
    norm = dict(type='BN', requires_grad=True)
    config.pretrained = None
    config.backbone = ConfigDict(
        type='mmseg.ResNetV1c',
        depth=18,
        base_channels=width,
        stem_channels=width,
        dilations=(1, 1, 2, 4),
        strides=(1, 2, 1, 1),
        out_indices=(0, 1, 2, 3),
        norm_cfg=norm,
        contract_dilation=True,
    )
    config.data_preprocessor.size = None
    config.data_preprocessor.size_divisor = 32
    heads = config.decode_head if isinstance(config.decode_head, list) else [config.decode_head]
    auxiliary = config.get('auxiliary_head')
    for one, channels in [*((h, 8 * width) for h in heads), *([(auxiliary, 4 * width)] if auxiliary else [])]:
        one.in_channels, one.channels, one.num_classes, one.norm_cfg = channels, head, classes, norm
        if one.type == 'FCNHead' and len(heads) > 1:
            one.in_index, one.num_convs, one.kernel_size = 2, 1, 1
            one.in_channels = 4 * width
        if one.type == 'OCRHead':
            one.in_channels, one.in_index, one.ocr_channels = 8 * width, 3, head // 2
    return edit(config, *changes)


@functools.cache
def preprocessor_of_many_channels():
    """Return the type of the preprocessor for images of more than three channels; onedl-mmengine's refuses their means."""
    from mmseg.models import SegDataPreProcessor

    class ManyChannels(SegDataPreProcessor):
        def __init__(self, mean, std, **options):
            super().__init__(mean=mean[:1], std=std[:1], **options)
            self.mean, self.std = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))

    try:
        SegDataPreProcessor(mean=[0.0] * 4, std=[1.0] * 4)
    except AssertionError:
        MODELS.register_module(module=ManyChannels)
        return 'kddense.ManyChannels'
    return 'SegDataPreProcessor'


def image(height, width, seed=0):
    """Return a smooth, coloured uint8 image, channels first."""
    random = np.random.RandomState(seed)
    coarse = torch.from_numpy(random.randint(0, 256, (1, 3, 5, 5)).astype('float32'))
    fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode='bicubic', align_corners=False)
    return fine[0].clamp(0, 255).round().to(torch.uint8)


BOXES = ((8.0, 10.0, 40.0, 44.0), (20.0, 4.0, 36.0, 20.0), (30.0, 22.0, 54.0, 40.0))


def detection_data(sizes=((64, 64), (48, 60)), boxes=(BOXES, BOXES[1:]), masks=False):
    """Return what a dataloader would hand to a detector: raw images, and data samples with boxes."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    samples = []
    for number, ((height, width), own) in enumerate(zip(sizes, boxes, strict=True)):
        truth = InstanceData(
            bboxes=torch.tensor(own, dtype=torch.float32).reshape(-1, 4),
            labels=torch.arange(len(own)) % 3,
        )
        if masks:
            bitmaps = np.zeros((len(own), height, width), dtype=np.uint8)
            for bitmap, (x1, y1, x2, y2) in zip(bitmaps, own, strict=True):
                bitmap[int(y1) : int(y2), int(x1) : int(x2)] = 1
            truth.masks = BitmapMasks(bitmaps, height, width)
        meta = dict(img_id=number, img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0))
        sample = DetDataSample(metainfo=meta, gt_instances=truth)
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        samples.append(sample)
    return dict(inputs=[image(*size, seed=i) for i, size in enumerate(sizes)], data_samples=samples)


def segmentation_data(size=(64, 64), classes=5, count=2):
    """Return what a dataloader would hand to a segmentor."""
    from mmseg.structures import SegDataSample

    samples = []
    for number in range(count):
        labels = torch.from_numpy(np.random.RandomState(number).randint(0, classes, (1, *size))).long()
        meta = dict(img_shape=size, ori_shape=size)
        samples.append(SegDataSample(metainfo=meta, gt_sem_seg=PixelData(data=labels)))
    return dict(inputs=[image(*size, seed=i) for i in range(count)], data_samples=samples)


def build(config, seed=0, scope='mmdet'):
    """Build a model with weights that depend on ``seed`` alone."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        with DefaultScope.overwrite_default_scope(scope):
            return MODELS.build(copy.deepcopy(config))
    finally:
        torch.set_rng_state(state)


def teacher_of(config, scope='mmdet', **options):
    """Return the `teacher` of a distiller's config, without a checkpoint unless one is given."""
    return dict(UNTRAINED, config=dict(model=config, default_scope=scope), **options)


def distiller(student, teacher, objectives, scope='mmdet', seed=0, **options):
    """Build a distiller; ``teacher`` is a model's config, or the `teacher` of a distiller's config.

    The teacher's weights are drawn anew, since kddense builds one with whatever numbers come next.
    """
    if 'type' in teacher:
        teacher = teacher_of(teacher, scope)
    config = dict(type='kddense.Distiller', student=student, teacher=teacher, objectives=objectives, **options)
    built = build(config, seed, scope)
    assert isinstance(built, kddense.Distiller)
    shake(*(one.model for one in built.teachers.values()))
    return built


def shake(*models, seed=7):
    """Move every weight and statistic of the models a little, so that no two agree and no bias is 0."""
    random = torch.Generator().manual_seed(seed)
    for model in models:
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if value.is_floating_point() and value.numel() and not name.startswith('data_preprocessor'):
                noise = torch.rand(value.shape, generator=random).to(value) - 0.5
                spread = value.detach().float().std() if value.numel() > 1 else torch.tensor(0.0)
                value.data.add_(noise * (0.2 + 0.5 * spread.nan_to_num().to(value)) * (0.2 if value.dim() > 1 else 1))


def step(model, data):
    """Run the student's preprocessing and the losses of one training step."""
    model.train()
    prepared = model.data_preprocessor(copy.deepcopy(data), True)
    return model(**prepared, mode='loss')


def total(losses):
    """Add what mmengine would add."""
    return BaseModel.parse_losses(None, losses)[0]
