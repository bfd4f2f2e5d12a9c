"""Attentive imitation of boxes for FCOS on BCCD: the quarter-width student learns from the full ResNet-18."""

_base_ = ['../skd/fcos_r18-w16_fpn_bccd.py', '../_base_/recipes/ail_boxes.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/fcos_r18_fpn_bccd.py',
        checkpoint='work_dirs/bccd_fcos/teacher/epoch_24.pth',
        precision='fp32',
    ),
    **_base_.distiller,
)
