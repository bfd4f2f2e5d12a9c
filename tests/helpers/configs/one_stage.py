"""An FCOS small enough for one CPU core; a discriminator asks for maps of at least 16x16, hence the stride of 4."""

_base_ = './detector.py'

model = dict(
    _delete_=True,
    type='FCOS',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(type='ResNet', depth=18, base_channels=8, norm_eval=False),
    neck=dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=16, num_outs=4),
    bbox_head=dict(
        type='FCOSHead',
        num_classes=3,
        in_channels=16,
        feat_channels=16,
        stacked_convs=1,
        strides=[4, 8, 16, 32],
        regress_ranges=((-1, 8), (8, 12), (12, 16), (16, 1e8)),
        norm_on_bbox=True,
        norm_cfg=dict(type='GN', num_groups=4),
    ),
    test_cfg=dict(nms_pre=100, score_thr=0.01, nms=dict(type='nms', iou_threshold=0.5), max_per_img=20),
)
