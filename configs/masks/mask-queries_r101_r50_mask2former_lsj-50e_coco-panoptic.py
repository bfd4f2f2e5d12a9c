"""Masks of queries on COCO, panoptic: Mask2Former with ResNet-50 learns from ResNet-101."""

_base_ = ['mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py', '../_base_/recipes/mask_queries.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='mmdet::mask2former/mask2former_r101_8xb2-lsj-50e_coco-panoptic.py',
        checkpoint='https://download.openmmlab.com/mmdetection/v3.0/mask2former/mask2former_r101_8xb2-lsj-50e_coco-panoptic/'
        'mask2former_r101_8xb2-lsj-50e_coco-panoptic_20220329_225104-c74d4d71.pth',
    ),
    **_base_.distiller,
)
