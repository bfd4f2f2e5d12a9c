"""Ablation on BCCD: weighted soft targets alone (Table 4, 'CLS-W')."""

_base_ = '../chen_r18_r18-w16_fpn_bccd.py'

model = dict(objectives=dict(rpn=dict(nu=0), roi=dict(nu=0), hint=dict(weight=0)))
