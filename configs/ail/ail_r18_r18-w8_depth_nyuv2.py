"""Attentive imitation and hint of depth on NYUv2, η measured before; see the README for the command."""

_base_ = ['../skd/depth_r18-w8_nyuv2.py', '../_base_/recipes/ail_depth.py']

errors = dict(error_range='work_dirs/nyuv2/teacher_errors.json')
model = dict(
    _delete_=True,
    type='kddense.Distiller',
    student={{_base_.model}},
    teacher=dict(
        config='kddense::skd/depth_r18_nyuv2.py',
        checkpoint='work_dirs/nyuv2/teacher/iter_2000.pth',
        precision='bf16',
        channels_last=True,
    ),
    objectives=dict(
        imitation=dict(type='kddense.AttentiveDepthObjective', **errors),
        hint=dict(type='kddense.AttentiveDepthHintObjective', **errors),
    ),
)
