"""A light depth estimator: ResNet-50, and the decoder of mmseg's semantic FPN, which gives metres on a log scale."""

norm_cfg = dict(type='SyncBN', requires_grad=True)
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=0,
    size_divisor=32,
)
model = dict(
    type='DepthEstimator',
    data_preprocessor=data_preprocessor,
    pretrained='torchvision://resnet50',
    backbone=dict(type='ResNet', depth=50, norm_cfg=norm_cfg, norm_eval=False),
    decode_head=dict(
        type='kddense.DepthHead',
        decoder=dict(
            type='FPNHead',
            in_channels=[256, 512, 1024, 2048],
            in_index=[0, 1, 2, 3],
            feature_strides=[4, 8, 16, 32],
            channels=128,
            norm_cfg=norm_cfg,
        ),
        target='log',
        min_depth=0.1,
        max_depth=10.0,
        loss_decode=[dict(type='SiLogLoss'), dict(type='kddense.LogL1Loss')],
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
