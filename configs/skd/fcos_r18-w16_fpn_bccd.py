"""The FCOS student on BCCD, without distillation: a ResNet-18 a quarter as wide, trained from scratch."""

_base_ = ['../_base_/datasets/bccd_detection.py', '../_base_/schedules/bccd_8e.py']

imagenet = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)
model = dict(
    type='FCOS',
    data_preprocessor=dict(type='DetDataPreprocessor', **imagenet, pad_size_divisor=32),
    backbone=dict(type='ResNet', depth=18, base_channels=16, norm_eval=False),
    neck=dict(type='FPN', in_channels=[16, 32, 64, 128], out_channels=64, num_outs=4),
    bbox_head=dict(
        type='FCOSHead',
        num_classes=3,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        strides=[4, 8, 16, 32],
        regress_ranges=((-1, 16), (16, 32), (32, 64), (64, 1e8)),
        center_sampling=True,
        norm_on_bbox=True,
        centerness_on_reg=True,
        loss_bbox=dict(type='GIoULoss', loss_weight=1.0),
    ),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100
    ),
)

train_dataloader = dict(batch_size=4)
