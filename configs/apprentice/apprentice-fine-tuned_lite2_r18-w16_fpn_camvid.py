"""Apprentice on CamVid, scheme C: from the trained float student on, at a low rate."""

_base_ = './apprentice_lite2_r18-w16_fpn_camvid.py'

load_from = 'work_dirs/camvid_fpn/plain/iter_600.pth'
optim_wrapper = dict(optimizer=dict(lr=_base_.optim_wrapper.optimizer.lr / 10))
