"""The FCOS student on BCCD of two label sets: half of the images label red cells, the other half all but these."""

_base_ = '../skd/fcos_r18-w16_fpn_bccd.py'

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
images = _base_.train_dataloader.dataset
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            dict(
                type='kddense.NamedDataset',
                called='red',
                classes=_base_.metainfo.classes,
                dataset={**images, 'metainfo': dict(classes=('RBC',)), 'indices': 101},  # the first
            ),
            dict(
                type='kddense.NamedDataset',
                called='white',
                classes=_base_.metainfo.classes,
                dataset={**images, 'metainfo': dict(classes=('WBC', 'Platelets')), 'indices': -102},  # the last
            ),
        ],
    )
)
