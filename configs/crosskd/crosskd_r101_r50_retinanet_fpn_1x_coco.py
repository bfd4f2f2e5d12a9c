"""CrossKD on COCO: RetinaNet with ResNet-50 learns from ResNet-101."""

_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', '../_base_/recipes/crosskd.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='mmdet::retinanet/retinanet_r101_fpn_1x_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_r101_fpn_1x_coco/retinanet_r101_fpn_1x_coco_20200130-7a93545f.pth',
    ),
    **_base_.distiller,
)
