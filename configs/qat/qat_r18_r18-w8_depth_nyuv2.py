"""INT8 quantisation-aware training on NYUv2, with the teacher that the float student learned from."""

_base_ = './qat_r18-w8_depth_nyuv2.py'

model = dict(
    student=_base_.model,
    teacher=dict(config='kddense::skd/depth_r18_nyuv2.py', checkpoint='work_dirs/nyuv2/teacher/iter_2000.pth'),
    **_base_.distiller,
)
