"""Cosine of the last stage of FCOS on BCCD, its gradient held at 30 % of the task's."""

_base_ = './cosine_lite2_r18-w16_fcos_fpn_bccd.py'

model = dict(objectives=dict(cosine=dict(weight='30%')))
