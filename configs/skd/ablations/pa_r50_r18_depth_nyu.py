"""Structured distillation of depth on NYU: the pair-wise term alone."""

_base_ = '../skd_r50_r18_depth_nyu.py'

model = dict(objectives=dict(holistic=dict(weight=0)))
optim_wrapper = dict(objectives=dict(_delete_=True))
