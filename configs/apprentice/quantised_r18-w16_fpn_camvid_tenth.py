"""The student of CamVid with weights of 4 bits and every tenth label, without a teacher."""

_base_ = './quantised_r18-w16_fpn_camvid.py'

train_dataloader = dict(dataset=dict(indices=list(range(0, 367, 10))))
