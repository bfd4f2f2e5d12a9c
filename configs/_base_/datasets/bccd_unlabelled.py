"""BCCD's training images without their labels, as many as labelled ones in a batch: for `default_hooks.unlabelled`."""

images = dict(
    type='CocoDataset',
    data_root='data/bccd/',
    ann_file='annotations/instances_train.json',
    data_prefix=dict(img='images/'),
    metainfo=dict(classes=('RBC', 'WBC', 'Platelets')),
)
unlabelled = dict(type='kddense.UnlabelledImagesHook', ratio=1, dataset=images)
