"""KD-DETR of Deformable DETR on BCCD, from a teacher with ImageNet weights: small enough for two CPU cores."""

_base_ = ['./deformable-detr_r18-w16_bccd.py', '../_base_/recipes/kd_detr.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::kd_detr/deformable-detr_lite2_bccd.py',
        checkpoint='work_dirs/bccd_detr/teacher/epoch_12.pth',
    ),
    **_base_.distiller,
)
