"""DETRDistill on COCO: DINO with ResNet-50 and four scales learns from Swin-L with five."""

_base_ = ['mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py', '../_base_/recipes/detrdistill.py']

_base_.distiller.objectives.target_aware.update(levels=[0, 1, 2, 3], teacher_levels=[1, 2, 3, 4])  # of the same strides
model = dict(
    student=_base_.model,
    teacher=dict(
        config='mmdet::dino/dino-5scale_swin-l_8xb2-12e_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/v3.0/dino/dino-5scale_swin-l_8xb2-12e_coco/'
        'dino-5scale_swin-l_8xb2-12e_coco_20230228_072924-a654145f.pth',
    ),
    **_base_.distiller,
)
