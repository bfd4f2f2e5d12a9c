"""Street scenes of tools/make_street_scenes.py for depth estimators: millimetres in 16-bit PNGs, up to 65 m, 256x128."""

_base_ = './nyuv2.py'

meta_keys = ('img_path', 'depth_map_path', 'ori_shape', 'img_shape', 'pad_shape', 'scale_factor', 'flip')
load_depth = dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3)
pack = dict(type='PackSegInputs', meta_keys=(*meta_keys, 'flip_direction'))
resize = dict(type='Resize', scale=(256, 128))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    load_depth,
    resize,
    *[dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion'), pack],
]
val_pipeline = [dict(type='LoadImageFromFile'), resize, load_depth, pack]
test_pipeline = [dict(type='LoadImageFromFile'), resize, pack]  # of an image alone, for mmseg's inference_model
data_root = '{{$STREET_SCENES:data/street_scenes}}/'
dataset = dict(data_root=data_root, img_suffix='_leftImg8bit.png', depth_map_suffix='_depth.png')
train = dict(img_path='leftImg8bit/train', depth_map_path='depth/train')
val = dict(img_path='leftImg8bit/val', depth_map_path='depth/val')

train_dataloader = dict(dataset=dict(**dataset, data_prefix=train, pipeline=train_pipeline))
test_dataloader = dict(dataset=dict(**dataset, data_prefix=val, pipeline=val_pipeline))
test_evaluator = dict(crop_type=None, max_depth_eval=65.0)
val_dataloader = test_dataloader
val_evaluator = test_evaluator
