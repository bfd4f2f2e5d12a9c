"""The FCOS student on BCCD with every tenth label, without distillation; an epoch sees each image ten times."""

_base_ = './fcos_r18-w16_fpn_bccd.py'

_base_.train_dataloader.dataset.indices = list(range(0, 205, 10))
train_dataloader = dict(
    dataset=dict(_delete_=True, type='RepeatDataset', times=10, dataset=_base_.train_dataloader.dataset)
)
