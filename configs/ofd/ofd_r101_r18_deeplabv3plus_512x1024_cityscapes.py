"""OFD of DeepLabV3+ on Cityscapes: four stages, ASPP and decoder, with the authors' weights."""

_base_ = [
    'mmseg::deeplabv3plus/deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024.py',
    '../_base_/recipes/ofd_deeplabv3plus.py',
]

model = dict(
    student=_base_.model,
    teacher=dict(
        config='mmseg::deeplabv3plus/deeplabv3plus_r101-d8_4xb2-80k_cityscapes-512x1024.py',
        checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/deeplabv3plus/'
        'deeplabv3plus_r101-d8_512x1024_80k_cityscapes/'
        'deeplabv3plus_r101-d8_512x1024_80k_cityscapes_20200606_114143-068fcfe9.pth',
    ),
    **_base_.distiller,
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'objectives': dict(lr_mult=10)}))  # the authors' connectors
