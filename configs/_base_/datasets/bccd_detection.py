"""BCCD: blood cells in 3 classes, COCO annotations, seen at 160x120 so that two CPU cores can train on it."""

_base_ = 'mmdet::_base_/datasets/coco_detection.py'

data_root = 'data/bccd/'
metainfo = dict(classes=('RBC', 'WBC', 'Platelets'))
load = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(160, 120), keep_ratio=True)]
annotate = dict(type='LoadAnnotations', with_bbox=True)
train_pipeline = [load[0], annotate, load[1], dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')]
test_pipeline = [
    *load,
    annotate,
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
dataset = dict(data_root=data_root, metainfo=metainfo, data_prefix=dict(img='images/'))

train_dataloader = dict(
    batch_size=8,
    persistent_workers=False,
    dataset=dict(**dataset, ann_file='annotations/instances_train.json', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=8,
    persistent_workers=False,
    dataset=dict(**dataset, ann_file='annotations/instances_val.json', pipeline=test_pipeline),
)
test_dataloader = dict(
    dataset=dict(ann_file='annotations/instances_test.json', **dataset, pipeline=test_pipeline),
    batch_size=8,
    persistent_workers=False,
)
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = dict(ann_file=data_root + 'annotations/instances_test.json')
