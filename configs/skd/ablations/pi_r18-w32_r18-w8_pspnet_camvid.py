"""The pixel-wise term alone: PI."""

_base_ = './pi-pa_r18-w32_r18-w8_pspnet_camvid.py'

model = dict(objectives=dict(pair=dict(weight=0)))
