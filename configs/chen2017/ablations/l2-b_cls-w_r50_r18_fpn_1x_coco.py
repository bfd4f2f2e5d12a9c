"""Ablation on COCO: bounded regression and weighted soft targets, no hint (Table 4, 'L2-B + CLS-W')."""

_base_ = '../chen_r50_r18_fpn_1x_coco.py'

model = dict(objectives=dict(hint=dict(weight=0)))
