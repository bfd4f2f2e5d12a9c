"""MGD on COCO: RetinaNet with ResNet-50 learns from ResNeXt-101."""

_base_ = ['mmdet::retinanet/retinanet_r50_fpn_2x_coco.py', '../_base_/recipes/mgd_one_stage.py']

weights = 'https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_x101_64x4d_fpn_mstrain_3x_coco/retinanet_x101_64x4d_fpn_mstrain_3x_coco_20210719_051838-022c2187.pth'
# The student begins with what lies behind its teacher's backbone.
_base_.model.neck.init_cfg = dict(type='Pretrained', prefix='neck', checkpoint=weights)
_base_.model.bbox_head.init_cfg = dict(type='Pretrained', prefix='bbox_head', checkpoint=weights)
model = dict(
    student=_base_.model,
    teacher=dict(config='mmdet::retinanet/retinanet_x101-64x4d_fpn_ms-640-800-3x_coco.py', checkpoint=weights),
    **_base_.distiller,
)
optim_wrapper = dict(clip_grad=dict(max_norm=35))
