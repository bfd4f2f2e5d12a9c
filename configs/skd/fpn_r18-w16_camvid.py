"""The student on CamVid, without distillation: a semantic FPN on a ResNet-18 a quarter as wide, from random weights."""

_base_ = ['mmseg::_base_/models/fpn_r50.py', '../_base_/datasets/camvid.py', '../_base_/schedules/camvid_600i.py']

norm_cfg = dict(type='BN', requires_grad=True)
train_dataloader = dict(batch_size=4)
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(180, 240)),
    backbone=dict(depth=18, base_channels=16, stem_channels=16, norm_cfg=norm_cfg),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=32),
    decode_head=dict(in_channels=[32] * 4, channels=32, num_classes=11, norm_cfg=norm_cfg),
)
