"""Attentive imitation and hint of depth on NYUv2, η measured before; see the README for the command."""

_base_ = ['../skd/depth_r18-w8_nyuv2.py', '../_base_/recipes/ail_depth.py']

errors = 'work_dirs/nyuv2/teacher_errors.json'
_base_.distiller.objectives.imitation.error_range = errors
_base_.distiller.objectives.hint.error_range = errors
model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/depth_r18_nyuv2.py',
        checkpoint='work_dirs/nyuv2/teacher/iter_2000.pth',
        precision='bf16',
        channels_last=True,
    ),
    **_base_.distiller,
)
