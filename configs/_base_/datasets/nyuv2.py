"""NYU Depth v2, the labelled 795/654 images at 320x240, seen at 160x120 so that two CPU cores can train on it."""

meta_keys = ('img_path', 'depth_map_path', 'ori_shape', 'img_shape', 'pad_shape', 'scale_factor', 'flip')
load_depth = dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3)
pack = dict(type='PackSegInputs', meta_keys=(*meta_keys, 'flip_direction'))
load, resize = dict(type='LoadImageFromFile'), dict(type='Resize', scale=(160, 120))
distort = [dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion')]
train_pipeline = [load, load_depth, resize, *distort, pack]
val_pipeline = [load, resize, load_depth, pack]  # the prediction is resized to the depth, which is not
test_pipeline = [load, resize, pack]  # of an image alone, for mmseg's inference_model
dataset = dict(type='NYUDataset', data_root='data/nyuv2/')
loader = dict(batch_size=8, num_workers=1, persistent_workers=True)
train = dict(img_path='images/train', depth_map_path='depth/train')
test = dict(img_path='images/test', depth_map_path='depth/test')

train_dataloader = dict(
    sampler=dict(type='InfiniteSampler'), dataset=dict(**dataset, data_prefix=train, pipeline=train_pipeline), **loader
)
test_dataloader = dict(
    **loader,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**dataset, data_prefix=test, pipeline=val_pipeline, test_mode=True),
)
test_evaluator = dict(
    type='kddense.DepthMetric',
    crop_type='nyu_crop',
    min_depth_eval=1e-3,
    max_depth_eval=10.0,
    depth_metrics=['abs_rel', 'rmse', 'log10', 'd1', 'd2', 'd3'],
)
val_dataloader = test_dataloader
val_evaluator = test_evaluator
