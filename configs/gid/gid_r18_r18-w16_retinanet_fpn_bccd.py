"""GID for RetinaNet on BCCD: the quarter-width student learns from the full ResNet-18; cells are small there."""

_base_ = ['../pkd/retinanet_r18-w16_fpn_bccd.py', '../_base_/recipes/gid.py']

_base_.distiller.objectives.gid.smallest = 4.0
model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::pkd/retinanet_r18_fpn_bccd.py',
        checkpoint='work_dirs/bccd_retinanet/teacher/epoch_24.pth',
        precision='fp32',
    ),
    **_base_.distiller,
)
