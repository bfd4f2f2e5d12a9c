"""INT8 quantisation-aware training of the trained FCOS student on BCCD, without a teacher: a quarter of its epochs."""

_base_ = ['../skd/fcos_r18-w16_fpn_bccd.py', '../_base_/recipes/qat.py']

load_from = '{{$STUDENT:work_dirs/bccd_fcos_lite2/fcos_r18-w16_fpn_bccd/seed_0/epoch_8.pth}}'
default_hooks = dict(quantise=_base_.quantise, checkpoint=dict(interval=2))
_base_.quantise.activations.freeze_after = 50

train_cfg = dict(max_epochs=2, val_interval=2)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, begin=0, T_max=2, end=2, convert_to_iter_based=True)]
