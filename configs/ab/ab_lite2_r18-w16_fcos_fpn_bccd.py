"""Activation boundaries for FCOS on BCCD first, and then the task."""

_base_ = ['../skd/fcos_r18-w16_fpn_bccd.py', '../_base_/recipes/ab.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/fcos_lite2_fpn_bccd.py',
        checkpoint='work_dirs/bccd_fcos_lite2/teacher/epoch_12.pth',
        precision='bf16',
        channels_last=True,
    ),
    **_base_.distiller,
)
default_hooks = dict(rest=_base_.rest)
