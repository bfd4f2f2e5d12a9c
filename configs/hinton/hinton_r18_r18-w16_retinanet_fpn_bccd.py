"""Soft classes of places for RetinaNet on BCCD: the quarter-width student learns from the full ResNet-18."""

_base_ = [
    '../pkd/retinanet_r18-w16_fpn_bccd.py',
    '../_base_/recipes/hinton_dense.py',
    '../_base_/teachers/retinanet_r18_bccd.py',
]

model = dict(student=_base_.model, teacher=_base_.teacher, **_base_.distiller)
