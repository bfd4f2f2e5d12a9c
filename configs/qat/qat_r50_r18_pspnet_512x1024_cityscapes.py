"""INT8 quantisation-aware training on Cityscapes: mmseg's trained PSPNet with ResNet-18, a quarter of its iterations."""

_base_ = ['mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py', '../_base_/recipes/qat.py']

load_from = 'https://download.openmmlab.com/mmsegmentation/v0.5/pspnet/pspnet_r18-d8_512x1024_80k_cityscapes/pspnet_r18-d8_512x1024_80k_cityscapes_20201225_021458-09ffa746.pth'
max_iters = 20000
model = dict(
    student=_base_.model,
    teacher=dict(
        config='mmseg::pspnet/pspnet_r50-d8_4xb2-80k_cityscapes-512x1024.py',
        checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/pspnet/pspnet_r50-d8_512x1024_80k_cityscapes/pspnet_r50-d8_512x1024_80k_cityscapes_20200606_112131-2376f12b.pth',
    ),
    **_base_.distiller,
)
default_hooks = dict(quantise=_base_.quantise)

train_cfg = dict(max_iters=max_iters, val_interval=2000)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [dict(type='PolyLR', eta_min=1e-5, power=0.9, by_epoch=False, begin=0, end=max_iters)]
