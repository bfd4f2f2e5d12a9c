"""Tiny depth estimators, and batches for them."""

from __future__ import annotations

import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData

from . import tiny

NORM = dict(type='BN', requires_grad=True)


def depth_estimator(*changes, width=8, decoder='SegformerHead', head=16, backbone='resnet'):
    """Return a depth estimator of strides 4 to 32; ``changes`` are dotted keys, as in :func:`tests.tiny.edit`."""
    layers, channels = tiny.backbone(backbone, width)
    model = ConfigDict(
        type='DepthEstimator',
        data_preprocessor=dict(
            type='SegDataPreProcessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            bgr_to_rgb=True,
            pad_val=0,
            seg_pad_val=0,
            size_divisor=32,
        ),
        backbone=dict(layers, type=layers['type'].replace('mmdet', 'mmseg')),
        decode_head=dict(
            type='kddense.DepthHead',
            decoder=dict(type=decoder, in_channels=channels, in_index=[0, 1, 2, 3], channels=head, norm_cfg=NORM),
            loss_decode=[dict(type='SiLogLoss'), dict(type='kddense.LogL1Loss')],
        ),
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )
    if decoder == 'FPNHead':
        model.decode_head.decoder.feature_strides = [4, 8, 16, 32]
    return tiny.edit(model, *changes)


BINS = {
    'decode_head.target': 'bins',
    'decode_head.num_bins': 12,
    'decode_head.loss_decode': [dict(type='kddense.OrderedCrossEntropyLoss'), dict(type='kddense.VirtualNormalLoss')],
}


def depth_data(size=(64, 64), count=2, unknown=0.2):
    """Return what a dataloader would hand to a depth estimator; a part of the true depth is not known."""
    from mmseg.structures import SegDataSample

    samples = []
    for number in range(count):
        random = torch.Generator().manual_seed(number)
        depth = 0.5 + 8 * torch.rand(1, *size, generator=random)
        depth[torch.rand(1, *size, generator=random) < unknown] = 0
        meta = dict(img_shape=size, ori_shape=size)
        samples.append(SegDataSample(metainfo=meta, gt_depth_map=PixelData(data=depth)))
    return dict(inputs=[tiny.image(*size, seed=i) for i in range(count)], data_samples=samples)
