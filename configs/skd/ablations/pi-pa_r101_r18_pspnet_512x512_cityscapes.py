"""Without the holistic term: PI + PA."""

_base_ = '../skd_r101_r18_pspnet_512x512_cityscapes.py'

model = dict(objectives=dict(holistic=dict(weight=0)))
optim_wrapper = dict(objectives=dict(_delete_=True))
