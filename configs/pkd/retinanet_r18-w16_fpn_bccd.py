"""The RetinaNet student on BCCD, without distillation: a ResNet-18 a quarter as wide, trained from scratch."""

_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    '../_base_/datasets/bccd_detection.py',
    '../_base_/schedules/bccd_8e.py',
]

norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(depth=18, base_channels=16, norm_cfg=norm_cfg, norm_eval=False, frozen_stages=-1, init_cfg=None),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=64, start_level=0, add_extra_convs=False, num_outs=4),
    bbox_head=dict(
        num_classes=3,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        anchor_generator=dict(octave_base_scale=2, strides=[4, 8, 16, 32]),
    ),
)

train_dataloader = dict(batch_size=4)
