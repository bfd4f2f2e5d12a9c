"""INT8 quantisation-aware training on BCCD, with the float student itself as the teacher."""

_base_ = './qat_r18-w16_fcos_fpn_bccd.py'

model = dict(
    student=_base_.model,
    teacher=dict(config='kddense::skd/fcos_r18-w16_fpn_bccd.py', checkpoint=_base_.load_from),
    **_base_.distiller,
)
