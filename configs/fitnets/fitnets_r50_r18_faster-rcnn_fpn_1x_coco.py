"""FitNets on COCO: C4 of a Faster R-CNN with ResNet-18 learns from that of ResNet-50."""

_base_ = ['../chen2017/faster-rcnn_r18_fpn_1x_coco.py', '../_base_/recipes/fitnets.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='mmdet::faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/faster_rcnn_r50_fpn_2x_coco/faster_rcnn_r50_fpn_2x_coco_bbox_mAP-0.384_20200504_210434-a5d8aa15.pth',
    ),
    **_base_.distiller,
)
