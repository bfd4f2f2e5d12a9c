"""Ablation on COCO: hint with adaptation layer (Table 4, 'Hints-A')."""

_base_ = '../chen_r50_r18_fpn_1x_coco.py'

model = dict(objectives=dict(rpn=dict(weight=0), roi=dict(weight=0)))
