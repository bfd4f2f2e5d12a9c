"""Street scenes of tools/make_street_scenes.py for detectors: 8 classes, COCO annotations, 256x128."""

_base_ = 'mmdet::_base_/datasets/coco_detection.py'

data_root = '{{$STREET_SCENES:data/street_scenes}}/'
classes = ('person', 'car', 'truck', 'bus', 'train')
load = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(256, 128), keep_ratio=True)]
annotate = dict(type='LoadAnnotations', with_bbox=True)
train_pipeline = [load[0], annotate, load[1], dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')]
test_pipeline = [
    *load,
    annotate,
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
dataset = dict(data_root=data_root, metainfo=dict(classes=classes))
validation = dict(
    ann_file='annotations/instances_val.json', data_prefix=dict(img='leftImg8bit/val/'), pipeline=test_pipeline
)

train_dataloader = dict(
    num_workers=1,
    batch_size=2,
    persistent_workers=False,
    dataset=dict(
        **dataset,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='leftImg8bit/train/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(batch_size=8, persistent_workers=False, dataset=dict(**dataset, **validation))
test_dataloader = dict(batch_size=8, persistent_workers=False, dataset=dict(**dataset, **validation))
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
