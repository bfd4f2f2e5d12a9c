"""Chen et al. 2017 on COCO: Mask R-CNN with ResNet-50 learns from Swin-T."""

_base_ = ['mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', '../_base_/recipes/chen2017.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/swin/mask_rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco/mask_rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco_20210906_131725-bacf6f7b.pth',
    ),
    **_base_.distiller,
)
