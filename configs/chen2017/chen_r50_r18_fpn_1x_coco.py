"""Chen et al. 2017 on COCO: Faster R-CNN with ResNet-18 learns from ResNet-50."""

_base_ = ['./faster-rcnn_r18_fpn_1x_coco.py', '../_base_/recipes/chen2017.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='mmdet::faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/faster_rcnn_r50_fpn_2x_coco/faster_rcnn_r50_fpn_2x_coco_bbox_mAP-0.384_20200504_210434-a5d8aa15.pth',
    ),
    **_base_.distiller,
)
