"""A trained student's weights rest on CamVid; the points they are rounded to learn from the labels, without a teacher."""

_base_ = './quantised_r18-w16_fpn_camvid.py'

load_from = '{{$STUDENT:work_dirs/camvid_fpn/fpn_r18-w16_camvid/seed_0/iter_600.pth}}'

max_iters = 150
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [dict(type='PolyLR', eta_min=1e-6, power=0.9, by_epoch=False, begin=0, end=max_iters)]
default_hooks = dict(
    checkpoint=dict(interval=max_iters),
    quantise=dict(
        weights=dict(_delete_=True, type='kddense.LearnedPointsQuantiser', bits=4),
        optimizer=dict(type='SGD', lr=1e-5, momentum=0.9),
    ),
)
