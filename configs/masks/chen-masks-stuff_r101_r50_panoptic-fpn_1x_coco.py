"""Things and stuff on COCO: Panoptic FPN with ResNet-50 learns boxes, soft masks and stuff from ResNet-101."""

_base_ = 'mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py'

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
model = dict(
    _delete_=True,
    type='kddense.Distiller',
    student=_base_.model,
    teacher=dict(
        config='mmdet::panoptic_fpn/panoptic-fpn_r101_fpn_1x_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/panoptic_fpn/panoptic_fpn_r101_fpn_1x_coco/panoptic_fpn_r101_fpn_1x_coco_20210820_193950-ab9157a2.pth',
    ),
    objectives=['chen2017', 'masks', 'stuff'],
)
