"""Ablation on BCCD: teacher-bounded regression alone (Table 4, 'L2-B')."""

_base_ = '../chen_r18_r18-w16_fpn_bccd.py'

model = dict(objectives=dict(rpn=dict(mu=1), roi=dict(mu=1), hint=dict(weight=0)))
