"""Ablation on BCCD: hint with adaptation layer (Table 4, 'Hints-A')."""

_base_ = '../chen_r18_r18-w16_fpn_bccd.py'

model = dict(objectives=dict(rpn=dict(weight=0), roi=dict(weight=0)))
