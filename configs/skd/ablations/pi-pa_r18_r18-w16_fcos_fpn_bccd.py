"""Without the holistic term: PI + PA."""

_base_ = '../skd_r18_r18-w16_fcos_fpn_bccd.py'

model = dict(objectives=dict(holistic=dict(weight=0)))
optim_wrapper = dict(objectives=dict(_delete_=True))
