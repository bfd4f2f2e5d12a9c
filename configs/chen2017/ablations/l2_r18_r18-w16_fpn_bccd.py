"""Ablation on BCCD: plain imitation of the teacher's boxes (Table 4, 'L2')."""

_base_ = '../chen_r18_r18-w16_fpn_bccd.py'

model = dict(objectives=dict(rpn=dict(mu=1, bounded=False), roi=dict(mu=1, bounded=False), hint=dict(weight=0)))
