"""The student on CamVid with every tenth label, without distillation."""

_base_ = './fpn_r18-w16_camvid.py'

train_dataloader = dict(dataset=dict(indices=list(range(0, 367, 10))))
