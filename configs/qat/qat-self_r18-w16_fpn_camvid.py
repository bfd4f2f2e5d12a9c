"""INT8 quantisation-aware training on CamVid, with the float student itself as the teacher."""

_base_ = './qat_r18-w16_fpn_camvid.py'

model = dict(
    student=_base_.model,
    teacher=dict(config='kddense::skd/fpn_r18-w16_camvid.py', checkpoint=_base_.load_from),
    **_base_.distiller,
)
