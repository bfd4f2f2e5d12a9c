"""The pixel-wise term alone: PI."""

_base_ = './pi-pa_r101_r18_pspnet_512x512_cityscapes.py'

model = dict(objectives=dict(pair=dict(weight=0)))
