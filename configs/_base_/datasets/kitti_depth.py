"""KITTI-style depth: equal paths under ``images`` and ``depth``, 16-bit PNGs of 256 to the metre, mostly empty."""

_base_ = './nyuv2.py'

meta_keys = ('img_path', 'depth_map_path', 'ori_shape', 'img_shape', 'pad_shape', 'scale_factor', 'flip')
load_depth = dict(type='LoadDepthAnnotation', depth_rescale_factor=1 / 256)
pack = dict(type='PackSegInputs', meta_keys=(*meta_keys, 'flip_direction'))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    load_depth,
    dict(type='RandomCrop', crop_size=(352, 704)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    pack,
]
val_pipeline = [dict(type='LoadImageFromFile'), load_depth, pack]
test_pipeline = [dict(type='LoadImageFromFile'), pack]  # of an image alone, for mmseg's inference_model
dataset = dict(data_root='data/kitti_depth/', img_suffix='.png')

train_dataloader = dict(num_workers=4, dataset=dict(**dataset, pipeline=train_pipeline))
test_dataloader = dict(batch_size=1, num_workers=4, dataset=dict(**dataset, pipeline=val_pipeline))
test_evaluator = dict(crop_type='garg_crop', max_depth_eval=80.0)
val_dataloader = test_dataloader
val_evaluator = test_evaluator
