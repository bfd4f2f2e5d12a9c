"""The student on NYUv2 with every tenth label, without distillation."""

_base_ = '../skd/depth_r18-w8_nyuv2.py'

train_dataloader = dict(dataset=dict(indices=list(range(0, 795, 10))))
