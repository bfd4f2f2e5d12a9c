"""A depth estimator small enough for one CPU core, on the toy images of ``toy_task.py``."""

_base_ = './segmentor.py'

norm_cfg = dict(type='BN', requires_grad=True)
custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
model = dict(
    _delete_=True,
    type='DepthEstimator',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size=(64, 64),
        seg_pad_val=0,
    ),
    backbone=dict(type='ResNetV1c', depth=18, base_channels=8, norm_cfg=norm_cfg),
    decode_head=dict(
        type='kddense.DepthHead',
        decoder=dict(
            type='SegformerHead',
            in_channels=[8, 16, 32, 64],
            in_index=[0, 1, 2, 3],
            channels=16,
            norm_cfg=norm_cfg,
        ),
        loss_decode=[dict(type='SiLogLoss'), dict(type='kddense.LogL1Loss')],
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)

load_depth = dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3)
meta_keys = ('img_path', 'ori_shape', 'img_shape', 'pad_shape', 'scale_factor', 'flip', 'flip_direction')
pack = dict(type='PackSegInputs', meta_keys=meta_keys)
augment = [dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion')]
dataset = dict(
    _delete_=True,
    type='NYUDataset',
    data_root='toy/',
    img_suffix='.png',
    data_prefix=dict(img_path='images', depth_map_path='depth'),
)
train_dataloader = dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile'), load_depth, *augment, pack], **dataset))
test_pipeline = [dict(type='LoadImageFromFile'), pack]
val_dataloader = dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile'), load_depth, pack], **dataset))
val_evaluator = dict(_delete_=True, type='kddense.DepthMetric', max_depth_eval=10.0)
test_dataloader = val_dataloader
test_evaluator = val_evaluator
