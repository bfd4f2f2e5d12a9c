"""RKD on CamVid, its gradient held at 30 % of the task's: a weight no other model or data set decided."""

_base_ = './rkd_lite2_r18-w16_fpn_camvid.py'

model = dict(objectives=dict(rkd=dict(weight='30%')))
