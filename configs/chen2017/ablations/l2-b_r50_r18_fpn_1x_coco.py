"""Ablation on COCO: teacher-bounded regression alone (Table 4, 'L2-B')."""

_base_ = '../chen_r50_r18_fpn_1x_coco.py'

model = dict(objectives=dict(rpn=dict(mu=1), roi=dict(mu=1), hint=dict(weight=0)))
