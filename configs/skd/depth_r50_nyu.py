"""The teacher on NYU at 480x640, read by mmseg's own dataset config: a depth estimator on a ResNet-50."""

_base_ = [
    '../_base_/models/depth_r50.py',
    'mmseg::_base_/datasets/nyu.py',
    'mmseg::_base_/schedules/schedule_40k.py',
    'mmseg::_base_/default_runtime.py',
]
custom_imports = dict(imports=['kddense'], allow_failed_imports=False)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomCrop', crop_size=(480, 480)),
    dict(type='PhotoMetricDistortion'),  # where mmseg needs albumentations, a package that it does not install
    dict(
        type='PackSegInputs',
        meta_keys=('img_path', 'depth_map_path', 'ori_shape', 'img_shape', 'pad_shape', 'flip', 'flip_direction'),
    ),
]
test_pipeline = [train_pipeline[0], train_pipeline[-1]]  # of an image alone, for mmseg's inference_model
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=10),
)
