"""INT8 quantisation-aware training on NYUv2, with the float student itself as the teacher."""

_base_ = './qat_r18-w8_depth_nyuv2.py'

model = dict(
    student=_base_.model,
    teacher=dict(config='kddense::skd/depth_r18-w8_nyuv2.py', checkpoint=_base_.load_from),
    **_base_.distiller,
)
