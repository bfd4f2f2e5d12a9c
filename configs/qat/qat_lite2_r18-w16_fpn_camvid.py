"""INT8 quantisation-aware training on CamVid, with the teacher that the float student learned from."""

_base_ = './qat_r18-w16_fpn_camvid.py'

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/fpn_lite2_camvid.py',
        checkpoint='work_dirs/camvid_fpn/teacher/iter_700.pth',
    ),
    **_base_.distiller,
)
