"""The plain student on CamVid, from what it learned without labels."""

_base_ = '../skd/fpn_r18-w16_camvid.py'

load_from = 'work_dirs/camvid_fpn/pretrain/iter_600.pth'
