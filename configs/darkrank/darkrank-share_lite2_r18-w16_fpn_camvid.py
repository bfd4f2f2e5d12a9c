"""DarkRank on CamVid, its gradient held at 30 % of the task's: a weight no other model or data set decided."""

_base_ = './darkrank_lite2_r18-w16_fpn_camvid.py'

model = dict(objectives=dict(darkrank=dict(weight='30%')))
