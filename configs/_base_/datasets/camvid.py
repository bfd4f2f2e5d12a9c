"""CamVid: 11 classes of driving scenes, 367/101/233 images, seen at 240x180 so that two CPU cores can train on it."""

classes = ['sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign', 'fence', 'car', 'pedestrian', 'bicyclist']
crop_size = (180, 240)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(240, 180), ratio_range=(0.75, 1.75), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(240, 180), keep_ratio=True),
    dict(type='LoadAnnotations'),  # after Resize: the prediction is resized to the labels
    dict(type='PackSegInputs'),
]
dataset = dict(type='BaseSegDataset', data_root='data/camvid/', metainfo=dict(classes=classes))
loader = dict(num_workers=1, persistent_workers=True)
test_loader = dict(**loader, batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False))
train = dict(img_path='images/train', seg_map_path='labels/train')
val = dict(img_path='images/val', seg_map_path='labels/val')
test = dict(img_path='images/test', seg_map_path='labels/test')

train_dataloader = dict(
    **loader,
    batch_size=8,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(**dataset, data_prefix=train, pipeline=train_pipeline),
)
val_dataloader = dict(**test_loader, dataset=dict(**dataset, data_prefix=val, pipeline=test_pipeline))
test_dataloader = dict(**test_loader, dataset=dict(**dataset, data_prefix=test, pipeline=test_pipeline))
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
