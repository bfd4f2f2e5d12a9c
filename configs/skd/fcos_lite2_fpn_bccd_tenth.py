"""The FCOS teacher on BCCD with every tenth label; an epoch sees each image ten times."""

_base_ = './fcos_lite2_fpn_bccd.py'

_base_.train_dataloader.dataset.indices = list(range(0, 205, 10))
train_dataloader = dict(
    dataset=dict(_delete_=True, type='RepeatDataset', times=10, dataset=_base_.train_dataloader.dataset)
)
