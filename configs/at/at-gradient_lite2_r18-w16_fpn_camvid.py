"""Attention transfer by gradients on CamVid: the teacher differentiates its loss, so in full precision."""

_base_ = ['../skd/fpn_r18-w16_camvid.py', '../_base_/recipes/at_gradient.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/fpn_lite2_camvid.py',
        checkpoint='work_dirs/camvid_fpn/teacher/iter_700.pth',
        precision='fp32',
        channels_last=True,
    ),
    **_base_.distiller,
)
