"""Without the holistic term: PI + PA."""

_base_ = '../skd_r18-w32_r18-w8_pspnet_camvid.py'

model = dict(objectives=dict(holistic=dict(weight=0)))
optim_wrapper = dict(objectives=dict(_delete_=True))
