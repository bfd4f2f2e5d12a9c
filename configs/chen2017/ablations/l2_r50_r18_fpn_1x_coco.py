"""Ablation on COCO: plain imitation of the teacher's boxes (Table 4, 'L2')."""

_base_ = '../chen_r50_r18_fpn_1x_coco.py'

model = dict(objectives=dict(rpn=dict(mu=1, bounded=False), roi=dict(mu=1, bounded=False), hint=dict(weight=0)))
