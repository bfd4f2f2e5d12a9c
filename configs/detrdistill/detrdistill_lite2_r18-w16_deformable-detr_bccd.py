"""DETRDistill of Deformable DETR on BCCD, from a teacher with ImageNet weights: small enough for two CPU cores."""

_base_ = ['../kd_detr/deformable-detr_r18-w16_bccd.py', '../_base_/recipes/detrdistill.py']

_base_.distiller.objectives.detrdistill.update(layers='last')  # the teacher has a decoder layer more
_base_.distiller.objectives.query_prior.update(layers='last')
model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::kd_detr/deformable-detr_lite2_bccd.py',
        checkpoint='work_dirs/bccd_detr/teacher/epoch_12.pth',
    ),
    **_base_.distiller,
)
