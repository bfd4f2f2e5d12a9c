"""Without the holistic term: PI + PA, from a teacher with ImageNet weights."""

_base_ = '../skd_lite2_r18-w16_fcos_fpn_bccd.py'

model = dict(objectives=dict(holistic=dict(weight=0)))
optim_wrapper = dict(objectives=dict(_delete_=True))
