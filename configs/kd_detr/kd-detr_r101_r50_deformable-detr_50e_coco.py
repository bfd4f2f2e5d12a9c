"""KD-DETR on COCO: Deformable DETR with ResNet-50 learns from ResNet-101, which is trained first."""

_base_ = ['mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py', '../_base_/recipes/kd_detr.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::kd_detr/deformable-detr_r101_50e_coco.py',
        checkpoint='work_dirs/deformable-detr_r101_50e_coco/epoch_50.pth',
    ),
    **_base_.distiller,
)
