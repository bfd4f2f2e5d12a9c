"""All of structured distillation on COCO: FCOS with MobileNetV2 learns from ResNeXt-101, 64x4d where the paper has 32x8d."""

_base_ = ['./fcos_mobilenet-v2-c128_fpn_gn-head_1x_coco.py', '../_base_/recipes/skd_detection.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='mmdet::fcos/fcos_x101-64x4d_fpn_gn-head_ms-640-800-2x_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/fcos/fcos_x101_64x4d_fpn_gn-head_mstrain_640-800_2x_coco/fcos_x101_64x4d_fpn_gn-head_mstrain_640-800_2x_coco-ede514a8.pth',
    ),
    **_base_.distiller,
)
optim_wrapper = _base_.joint_optim_wrapper
