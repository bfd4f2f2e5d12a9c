"""Quantized distillation on CamVid: weights of 4 bits in buckets of 256, a trained teacher."""

_base_ = ['../skd/fpn_r18-w16_camvid.py', '../_base_/recipes/quantized_distillation.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/fpn_lite2_camvid.py',
        checkpoint='work_dirs/camvid_fpn/teacher/iter_700.pth',
        precision='bf16',
        channels_last=True,
    ),
    **_base_.distiller,
)
default_hooks = dict(quantise=_base_.quantise)
