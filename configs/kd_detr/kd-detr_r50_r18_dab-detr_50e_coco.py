"""KD-DETR on COCO, the pair of its released code: DAB-DETR with ResNet-18 learns from ResNet-50."""

_base_ = ['./dab-detr_r18_50e_coco.py', '../_base_/recipes/kd_detr.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='mmdet::dab_detr/dab-detr_r50_8xb2-50e_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/v3.0/dab_detr/dab-detr_r50_8xb2-50e_coco/'
        'dab-detr_r50_8xb2-50e_coco_20221122_120837-c1035c8c.pth',
    ),
    **_base_.distiller,
)
