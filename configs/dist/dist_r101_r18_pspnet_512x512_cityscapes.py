"""DIST of the pixels on Cityscapes: PSPNet with ResNet-18 learns from ResNet-101."""

_base_ = ['../skd/pspnet_r18_512x512_cityscapes.py', '../_base_/recipes/dist.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py',
        checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/pspnet/pspnet_r101-d8_512x1024_80k_cityscapes/'
        'pspnet_r101-d8_512x1024_80k_cityscapes_20200606_112211-e1e1100f.pth',
    ),
    **_base_.distiller,
)
