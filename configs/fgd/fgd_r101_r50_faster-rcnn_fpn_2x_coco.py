"""FGD on COCO: Faster R-CNN with ResNet-50 learns from ResNet-101."""

_base_ = ['mmdet::faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py', '../_base_/recipes/fgd.py']

weights = 'https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/faster_rcnn_r101_fpn_2x_coco/faster_rcnn_r101_fpn_2x_coco_bbox_mAP-0.398_20200504_210455-1d2dac9c.pth'
# The student begins with what lies behind its teacher's backbone.
_base_.model.neck.init_cfg = dict(type='Pretrained', prefix='neck', checkpoint=weights)
_base_.model.rpn_head.init_cfg = dict(type='Pretrained', prefix='rpn_head', checkpoint=weights)
_base_.model.roi_head.init_cfg = dict(type='Pretrained', prefix='roi_head', checkpoint=weights)
model = dict(
    student=_base_.model,
    teacher=dict(config='mmdet::faster_rcnn/faster-rcnn_r101_fpn_2x_coco.py', checkpoint=weights),
    **_base_.distiller,
)
optim_wrapper = dict(clip_grad=dict(max_norm=35))
