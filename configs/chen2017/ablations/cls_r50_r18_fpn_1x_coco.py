"""Ablation on COCO: soft targets without the background weight (Table 4, 'CLS')."""

_base_ = '../chen_r50_r18_fpn_1x_coco.py'

soft = dict(nu=0, background_weight=1)
model = dict(objectives=dict(rpn=soft, roi=soft, hint=dict(weight=0)))
