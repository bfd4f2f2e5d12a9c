"""INT8 quantisation-aware training of depth on NYU: the trained ResNet-18, a quarter of its iterations beside ResNet-50."""

_base_ = ['../skd/depth_r18_nyu.py', '../_base_/recipes/qat.py']

load_from = 'work_dirs/depth_r18_nyu/iter_40000.pth'
max_iters = 10000
model = dict(
    student=_base_.model,
    teacher=dict(config='kddense::skd/depth_r50_nyu.py', checkpoint='work_dirs/depth_r50_nyu/iter_40000.pth'),
    **_base_.distiller,
)
default_hooks = dict(quantise=_base_.quantise)

train_cfg = dict(max_iters=max_iters, val_interval=2000)
optim_wrapper = dict(optimizer=dict(lr=3e-5))
param_scheduler = [dict(type='PolyLR', eta_min=1e-6, power=0.9, by_epoch=False, begin=0, end=max_iters)]
