"""FGD on BCCD with every tenth label and as many images without one, its gradient held at 30 % of the task's."""

_base_ = [
    '../skd/fcos_r18-w16_fpn_bccd_tenth.py',
    '../_base_/recipes/fgd_anchor_free.py',
    '../_base_/datasets/bccd_unlabelled.py',
]

default_hooks = dict(unlabelled=_base_.unlabelled)
model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/fcos_lite2_fpn_bccd_tenth.py', checkpoint='work_dirs/bccd_tenth/teacher/epoch_12.pth'
    ),
    **_base_.distiller,
)
model['objectives']['fgd']['weight'] = '30%'
