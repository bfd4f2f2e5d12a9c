"""Depth up to scale and shift on NYUv2 with every tenth label: pseudo-depth of the labelled images alone."""

_base_ = ['./depth_r18-w8_nyuv2_tenth.py', '../_base_/recipes/depth_any.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::depth_any/depth_lite2_nyuv2_tenth.py',
        checkpoint='work_dirs/nyuv2_tenth/teacher/iter_1200.pth',
        precision='bf16',
        channels_last=True,
    ),
    **_base_.distiller,
)
