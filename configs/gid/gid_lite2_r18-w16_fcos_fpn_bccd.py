"""GID for FCOS on BCCD, from a teacher with ImageNet weights; cells are small there."""

_base_ = ['../skd/fcos_r18-w16_fpn_bccd.py', '../_base_/recipes/gid.py']

_base_.distiller.objectives.gid.smallest = 4.0
model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/fcos_lite2_fpn_bccd.py',
        checkpoint='work_dirs/bccd_fcos_lite2/teacher/epoch_12.pth',
        precision='fp32',
    ),
    **_base_.distiller,
)
