"""As the authors' released code does it, not the paper."""

_base_ = '../skd_r101_r18_pspnet_512x512_cityscapes.py'

model = dict(
    objectives=dict(
        pixel=dict(mode='code'),
        pair=dict(mode='code', weight=0.5),
        holistic=dict(mode='code'),
    )
)
optim_wrapper = dict(
    objectives=dict(holistic=dict(optimizer=dict(_delete_=True, type='SGD', lr=4e-4, momentum=0.9, weight_decay=5e-4))),
)
