"""INT8 quantisation-aware training on BCCD, with the teacher that the float student learned from."""

_base_ = './qat_r18-w16_fcos_fpn_bccd.py'

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/fcos_lite2_fpn_bccd.py',
        checkpoint='work_dirs/bccd_fcos_lite2/teacher/epoch_12.pth',
    ),
    **_base_.distiller,
)
