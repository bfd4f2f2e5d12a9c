"""Quantized distillation on Cityscapes: PSPNet with a ResNet-18 of 4-bit weights learns from ResNet-50."""

_base_ = ['mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py', '../_base_/recipes/quantized_distillation.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='mmseg::pspnet/pspnet_r50-d8_4xb2-80k_cityscapes-512x1024.py',
        checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/pspnet/pspnet_r50-d8_512x1024_80k_cityscapes/pspnet_r50-d8_512x1024_80k_cityscapes_20200606_112131-2376f12b.pth',
    ),
    **_base_.distiller,
)
default_hooks = dict(quantise=_base_.quantise)
