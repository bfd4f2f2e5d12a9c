"""The GFL student on BCCD, without distillation: a ResNet-18 a quarter as wide, trained from scratch."""

_base_ = ['../_base_/datasets/bccd_detection.py', '../_base_/schedules/bccd_8e.py']

imagenet = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)
anchors = dict(ratios=[1.0], octave_base_scale=4, scales_per_octave=1, strides=[4, 8, 16, 32])
model = dict(
    type='GFL',
    data_preprocessor=dict(type='DetDataPreprocessor', **imagenet, pad_size_divisor=32),
    backbone=dict(type='ResNet', depth=18, base_channels=16, norm_eval=False),
    neck=dict(type='FPN', in_channels=[16, 32, 64, 128], out_channels=64, num_outs=4),
    bbox_head=dict(
        type='GFLHead',
        num_classes=3,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        anchor_generator=dict(type='AnchorGenerator', **anchors),
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_dfl=dict(type='DistributionFocalLoss', loss_weight=0.25),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        reg_max=16,
    ),
    train_cfg=dict(assigner=dict(type='ATSSAssigner', topk=9), allowed_border=-1, pos_weight=-1, debug=False),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.6), max_per_img=100
    ),
)

train_dataloader = dict(batch_size=4)
