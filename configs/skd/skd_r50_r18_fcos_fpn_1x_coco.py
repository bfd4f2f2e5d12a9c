"""All of structured distillation on COCO: FCOS with ResNet-18 learns from ResNet-50."""

_base_ = ['./fcos_r18_fpn_gn-head_1x_coco.py', '../_base_/recipes/skd_detection.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/fcos/fcos_r50_caffe_fpn_gn-head_1x_coco/fcos_r50_caffe_fpn_gn-head_1x_coco-821213aa.pth',
    ),
    **_base_.distiller,
)
optim_wrapper = _base_.joint_optim_wrapper
