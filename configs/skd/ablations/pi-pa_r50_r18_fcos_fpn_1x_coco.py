"""Without the holistic term: PI + PA."""

_base_ = '../skd_r50_r18_fcos_fpn_1x_coco.py'

model = dict(objectives=dict(holistic=dict(weight=0)))
optim_wrapper = dict(objectives=dict(_delete_=True))
