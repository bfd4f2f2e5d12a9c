"""Pre-training without labels: the student on CamVid learns EfficientNet-Lite2's features, of images of other data too."""

_base_ = './foundation_lite2_r18-w16_fpn_camvid.py'

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='kddense.UnlabelledImages',
        images=['data/camvid/images/train', 'data/nyuv2/images/train'],
        pipeline=[
            dict(type='RandomResize', scale=(240, 180), ratio_range=(1.0, 1.75), keep_ratio=True),
            dict(type='RandomCrop', crop_size=(180, 240)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ],
    )
)
