"""The teacher of the demo: Faster R-CNN on an EfficientNet-Lite0 with ImageNet weights, which a package ships."""

_base_ = './faster-rcnn_r18-w16_street-scenes.py'

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3),
    backbone=dict(_delete_=True, type='kddense.EfficientNetLite', arch='lite0', frozen_stages=2),
    neck=dict(in_channels=[24, 40, 112, 320], out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64),
    roi_head=dict(bbox_roi_extractor=dict(out_channels=64), bbox_head=dict(in_channels=64, fc_out_channels=256)),
)

max_epochs = 5
train_dataloader = dict(batch_size=4)
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR', by_epoch=True, begin=0, T_max=max_epochs, end=max_epochs, convert_to_iter_based=True
    ),
]
