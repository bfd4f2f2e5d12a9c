"""The FCOS student on half of BCCD, and on what a teacher found in the other half: every box counts in full."""

_base_ = '../skd/fcos_r18-w16_fpn_bccd.py'

images = _base_.train_dataloader.dataset
labelled = {**images, 'indices': 102}
found = {
    **images,
    'data_root': '',
    'ann_file': 'work_dirs/bccd_half/labels/annotations.json',
    'data_prefix': dict(img='data/bccd/'),
}
train_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=[labelled, found]))
