"""The depth estimator of the demo, without distillation: a ResNet-18 an eighth as wide, from random weights."""

_base_ = [
    '../_base_/models/depth_r50.py',
    '../_base_/datasets/street_scenes_depth.py',
    '../_base_/schedules/demo_300i.py',
]
custom_imports = dict(imports=['kddense'], allow_failed_imports=False)

norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    pretrained=None,
    backbone=dict(depth=18, base_channels=8, stem_channels=8, norm_cfg=norm_cfg),
    decode_head=dict(
        decoder=dict(in_channels=[8, 16, 32, 64], channels=16, norm_cfg=norm_cfg), min_depth=1.0, max_depth=65.0
    ),
)
