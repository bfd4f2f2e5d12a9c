"""FitNets for FCOS on BCCD with every tenth label: in each batch as many images without a label."""

_base_ = [
    '../skd/fcos_r18-w16_fpn_bccd_tenth.py',
    '../_base_/recipes/fitnets.py',
    '../_base_/datasets/bccd_unlabelled.py',
    '../_base_/teachers/fcos_lite2_bccd_tenth.py',
]

default_hooks = dict(unlabelled=_base_.unlabelled)
model = dict(student=_base_.model, teacher=_base_.teacher, **_base_.distiller)
