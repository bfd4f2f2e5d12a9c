"""Structured distillation on CamVid with every tenth label: in each batch as many images without a label."""

_base_ = ['./skd_lite2_r18-w16_fpn_camvid_tenth.py', '../_base_/datasets/camvid_unlabelled.py']

default_hooks = dict(unlabelled=_base_.unlabelled)
