"""The FCOS student on the labelled half of BCCD alone, each image twice in an epoch."""

_base_ = '../skd/fcos_r18-w16_fpn_bccd.py'

half = {**_base_.train_dataloader.dataset, 'indices': 102}
train_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=2, dataset=half))
