"""Cosine on BCCD with every tenth label and as many images without one, its gradient held at 30 % of the task's."""

_base_ = './cosine-unlabelled_lite2_r18-w16_fcos_fpn_bccd_tenth.py'

model = dict(objectives=dict(cosine=dict(weight='30%')))
