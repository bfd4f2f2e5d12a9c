"""Pre-training without labels: backbone and neck of the student on BCCD learn EfficientNet-Lite2's features."""

_base_ = ['../skd/fcos_r18-w16_fpn_bccd.py', '../_base_/recipes/foundation_neck.py']

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
    batch_sampler=None,  # mmdet's groups images by shapes that are in annotations
    dataset=dict(
        _delete_=True,
        type='kddense.UnlabelledImages',
        images=['data/bccd/annotations/instances_train.json', 'data/coco128/images'],
        root='data/bccd/images',
        pipeline=[
            dict(type='Resize', scale=(160, 120), keep_ratio=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    ),
)
