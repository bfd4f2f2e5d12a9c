"""Ablation on COCO: hint without adaptation layer (Table 4, 'Hints')."""

_base_ = '../chen_r50_r18_fpn_1x_coco.py'

model = dict(objectives=dict(rpn=dict(weight=0), roi=dict(weight=0), hint=dict(adapt=False)))
