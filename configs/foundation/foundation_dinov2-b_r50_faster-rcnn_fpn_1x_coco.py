"""Faster R-CNN with ResNet-50 on COCO learns from DINOv2, base size."""

_base_ = ['mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', '../_base_/recipes/cosine.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        type='kddense.TimmTeacher',
        model='vit_base_patch14_reg4_dinov2.lvd142m',
        pretrained=True,  # timm downloads the weights once
        input_scale=0.4375,  # one patch of 14 pixels for 32 pixels of the student
        precision='bf16',
    ),
    **_base_.distiller,
)
