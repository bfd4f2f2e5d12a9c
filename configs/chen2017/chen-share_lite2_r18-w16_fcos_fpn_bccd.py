"""Chen et al. 2017 for FCOS on BCCD; the gradient of its hint, from a stranger, is held at 30 % of the task's."""

_base_ = './chen_lite2_r18-w16_fcos_fpn_bccd.py'

model = dict(objectives=dict(hint=dict(weight='30%')))
