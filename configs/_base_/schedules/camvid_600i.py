"""600 iterations, for segmentors on CamVid: AdamW, a short warm-up, then polynomial; nothing is clipped."""

_base_ = ['mmseg::_base_/schedules/schedule_20k.py', 'mmseg::_base_/default_runtime.py']

max_iters = 600
optim_wrapper = dict(_delete_=True, type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.02))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=1e-5, power=0.9, by_epoch=False, begin=50, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=max_iters))
