"""The cosine on NYUv2, from EfficientNet-Lite2 as ImageNet left it."""

_base_ = ['../skd/depth_r18-w8_nyuv2.py', '../_base_/recipes/cosine.py']

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
