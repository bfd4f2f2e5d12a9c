"""Ablation on COCO: weighted soft targets alone (Table 4, 'CLS-W')."""

_base_ = '../chen_r50_r18_fpn_1x_coco.py'

model = dict(objectives=dict(rpn=dict(nu=0), roi=dict(nu=0), hint=dict(weight=0)))
