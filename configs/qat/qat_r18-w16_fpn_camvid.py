"""INT8 quantisation-aware training of the trained student on CamVid, without a teacher: a quarter of its iterations."""

_base_ = ['../skd/fpn_r18-w16_camvid.py', '../_base_/recipes/qat.py']

load_from = '{{$STUDENT:work_dirs/camvid_fpn/fpn_r18-w16_camvid/seed_0/iter_600.pth}}'
max_iters = 150
default_hooks = dict(quantise=_base_.quantise, checkpoint=dict(interval=max_iters))
_base_.quantise.activations.freeze_after = 75

train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [dict(type='PolyLR', eta_min=1e-6, power=0.9, by_epoch=False, begin=0, end=max_iters)]
