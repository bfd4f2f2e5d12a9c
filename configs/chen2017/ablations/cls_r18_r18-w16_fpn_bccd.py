"""Ablation on BCCD: soft targets without the background weight (Table 4, 'CLS')."""

_base_ = '../chen_r18_r18-w16_fpn_bccd.py'

model = dict(
    objectives=dict(rpn=dict(nu=0, background_weight=1), roi=dict(nu=0, background_weight=1), hint=dict(weight=0))
)
