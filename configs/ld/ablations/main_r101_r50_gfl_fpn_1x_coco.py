"""Positives alone, without the valuable region."""

_base_ = '../ld_r101_r50_gfl_fpn_1x_coco.py'

model = dict(objectives=dict(ld=dict(region_weight=0)))
