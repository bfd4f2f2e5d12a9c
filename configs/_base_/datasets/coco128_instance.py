"""People of COCO128 with masks, seen at 320x320: 188 in 47 images to train on, 66 in 32 to test; to try things."""

_base_ = 'mmdet::_base_/datasets/coco_instance.py'

data_root = 'data/coco128/'
metainfo = dict(classes=('person',))
load = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(320, 320), keep_ratio=True)]
annotate = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
train_pipeline = [load[0], annotate, load[1], dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')]
test_pipeline = [
    *load,
    annotate,
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
dataset = dict(data_root=data_root, metainfo=metainfo, data_prefix=dict(img='images/'))
held_out = dict(**dataset, ann_file='annotations/instances_val.json', pipeline=test_pipeline)

train_dataloader = dict(
    batch_size=4,
    persistent_workers=False,
    dataset=dict(**dataset, ann_file='annotations/instances_train.json', pipeline=train_pipeline),
)
val_dataloader = dict(batch_size=4, persistent_workers=False, dataset=held_out)
test_dataloader = dict(batch_size=4, persistent_workers=False, dataset=held_out)
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
