"""Positives alone, without the valuable region."""

_base_ = '../ld_r18_r18-w16_gfl_fpn_bccd.py'

model = dict(objectives=dict(ld=dict(region_weight=0)))
