"""MGD on Cityscapes: PSPNet with ResNet-18 learns from ResNet-101."""

_base_ = ['../skd/pspnet_r18_512x512_cityscapes.py', '../_base_/recipes/mgd_segmentation.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='mmseg::pspnet/pspnet_r101-d8_4xb2-40k_cityscapes-512x1024.py',
        checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/pspnet/pspnet_r101-d8_512x1024_40k_cityscapes/pspnet_r101-d8_512x1024_40k_cityscapes_20200604_232751-467e7cf4.pth',
    ),
    **_base_.distiller,
)
