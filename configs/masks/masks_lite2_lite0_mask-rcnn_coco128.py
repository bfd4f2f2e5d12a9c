"""Soft masks of Mask R-CNN on people of COCO128, from a larger teacher: small enough for two CPU cores."""

_base_ = ['./mask-rcnn_lite0_coco128.py', '../_base_/recipes/masks.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::masks/mask-rcnn_lite2_coco128.py', checkpoint='work_dirs/coco128_masks/teacher/epoch_30.pth'
    ),
    **_base_.distiller,
)
