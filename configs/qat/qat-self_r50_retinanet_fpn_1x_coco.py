"""INT8 quantisation-aware training on COCO: mmdet's trained RetinaNet with ResNet-50, three epochs beside itself."""

_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', '../_base_/recipes/qat.py']

load_from = 'https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_r50_fpn_1x_coco/retinanet_r50_fpn_1x_coco_20200130-c2398f9e.pth'
model = dict(
    student=_base_.model,
    teacher=dict(config='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', checkpoint=load_from),
    **_base_.distiller,
)
default_hooks = dict(quantise=_base_.quantise)

train_cfg = dict(max_epochs=3)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, begin=0, T_max=3, end=3, convert_to_iter_based=True)]
