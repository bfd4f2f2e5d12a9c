"""Differentiable quantisation on CamVid: a trained student's weights rest, and the points they are rounded to learn."""

_base_ = './quantized_lite2_r18-w16_fpn_camvid.py'

load_from = 'work_dirs/camvid_fpn/plain/iter_600.pth'
default_hooks = dict(
    quantise=dict(
        weights=dict(_delete_=True, type='kddense.LearnedPointsQuantiser', bits=4),
        optimizer=dict(type='SGD', lr=1e-5, momentum=0.9),
    )
)
