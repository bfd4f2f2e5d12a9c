"""Soft masks of Mask R-CNN on COCO128, from a teacher with ImageNet weights: small enough for two CPU cores."""

_base_ = ['./mask-rcnn_r18-w16_coco128.py', '../_base_/recipes/masks.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::masks/mask-rcnn_lite2_coco128.py', checkpoint='work_dirs/coco128_masks/teacher/epoch_8.pth'
    ),
    **_base_.distiller,
)
