"""The pixel-wise term alone, from a teacher with ImageNet weights: PI."""

_base_ = './pi-pa_lite2_r18-w16_fpn_camvid.py'

model = dict(objectives=dict(pair=dict(weight=0)))
