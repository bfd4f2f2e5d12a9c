"""The segmentor of the demo, without distillation: semantic FPN on a ResNet-18 an eighth as wide, from random weights."""

_base_ = [
    'mmseg::_base_/models/fpn_r50.py',
    '../_base_/datasets/street_scenes_segmentation.py',
    '../_base_/schedules/demo_300i.py',
]

norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(128, 256)),
    backbone=dict(depth=18, base_channels=8, stem_channels=8, norm_cfg=norm_cfg),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    decode_head=dict(in_channels=[16] * 4, channels=16, num_classes=19, norm_cfg=norm_cfg),
)
train_dataloader = dict(batch_size=4)
