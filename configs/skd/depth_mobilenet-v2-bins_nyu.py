"""The paper's kind of student on NYU: MobileNetV2, 150 bins, virtual normals."""

_base_ = './depth_x101-bins_nyu.py'

norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    pretrained='mmcls://mobilenet_v2',
    backbone=dict(_delete_=True, type='MobileNetV2', out_indices=(1, 2, 4, 6), norm_cfg=norm_cfg),
    decode_head=dict(decoder=dict(in_channels=[24, 32, 96, 320])),
)
