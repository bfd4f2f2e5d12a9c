"""Pre-training without labels: backbone and neck of the student on CamVid learn EfficientNet-Lite2's features."""

_base_ = ['../skd/fpn_r18-w16_camvid.py', '../_base_/recipes/foundation_neck.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        type='kddense.ModuleTeacher',
        module=dict(type='kddense.EfficientNetLite', arch='lite2'),
        mean=[127.0] * 3,
        std=[128.0] * 3,
        size_divisor=32,
    ),
    **_base_.distiller,
)
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
