"""Ablation on BCCD: bounded regression and weighted soft targets, no hint (Table 4, 'L2-B + CLS-W')."""

_base_ = '../chen_r18_r18-w16_fpn_bccd.py'

model = dict(objectives=dict(hint=dict(weight=0)))
