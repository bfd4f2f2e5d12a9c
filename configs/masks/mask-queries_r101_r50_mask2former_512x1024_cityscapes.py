"""Masks of queries on Cityscapes, classes: mmseg's Mask2Former with ResNet-50 learns from ResNet-101."""

_base_ = ['mmseg::mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py', '../_base_/recipes/mask_queries.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='mmseg::mask2former/mask2former_r101_8xb2-90k_cityscapes-512x1024.py',
        checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/mask2former/mask2former_r101_8xb2-90k_cityscapes-512x1024/mask2former_r101_8xb2-90k_cityscapes-512x1024_20221130_031628-43e68666.pth',
    ),
    **_base_.distiller,
)
