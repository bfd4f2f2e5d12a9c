"""Structured distillation of depth on NYUv2: the pair-wise term alone."""

_base_ = '../skd_r18_r18-w8_depth_nyuv2.py'

model = dict(objectives=dict(holistic=dict(weight=0)))
optim_wrapper = dict(objectives=dict(_delete_=True))
