"""DKD for FCOS on BCCD with every tenth label: in each batch as many images without a label."""

_base_ = [
    '../skd/fcos_r18-w16_fpn_bccd_tenth.py',
    '../_base_/recipes/dkd.py',
    '../_base_/datasets/bccd_unlabelled.py',
]

_base_.distiller.objectives.dkd.weight = 10  # as with all labels: a mean over all places is small
default_hooks = dict(unlabelled=_base_.unlabelled)
model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/fcos_lite2_fpn_bccd_tenth.py', checkpoint='work_dirs/bccd_tenth/teacher/epoch_12.pth'
    ),
    **_base_.distiller,
)
