"""GID on COCO: RetinaNet with ResNet-50 learns from ResNet-101."""

_base_ = ['mmdet::retinanet/retinanet_r50_fpn_2x_coco.py', '../_base_/recipes/gid.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='mmdet::retinanet/retinanet_r101_fpn_2x_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_r101_fpn_2x_coco/retinanet_r101_fpn_2x_coco_20200131-5560aee8.pth',
    ),
    **_base_.distiller,
)
