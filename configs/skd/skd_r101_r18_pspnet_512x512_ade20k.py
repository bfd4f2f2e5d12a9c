"""All of structured distillation on ADE20K, 150 classes: PSPNet-R18 learns from ResNet-101."""

_base_ = ['./pspnet_r18_512x512_ade20k.py', '../_base_/recipes/skd.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='mmseg::pspnet/pspnet_r101-d8_4xb4-80k_ade20k-512x512.py',
        checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/pspnet/pspnet_r101-d8_512x512_80k_ade20k/pspnet_r101-d8_512x512_80k_ade20k_20200614_031423-b6e782f0.pth',
    ),
    **_base_.distiller,
)
optim_wrapper = _base_.joint_optim_wrapper
