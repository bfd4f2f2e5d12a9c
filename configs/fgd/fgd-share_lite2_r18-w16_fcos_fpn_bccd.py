"""FGD of FCOS on BCCD, its gradient held at 30 % of the task's: a weight no other model or data set decided."""

_base_ = './fgd_lite2_r18-w16_fcos_fpn_bccd.py'

model = dict(objectives=dict(fgd=dict(weight='30%')))
