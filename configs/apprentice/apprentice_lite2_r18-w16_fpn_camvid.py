"""Apprentice on CamVid, scheme B: weights of 4 bits from the start, a trained teacher."""

_base_ = ['../skd/fpn_r18-w16_camvid.py', '../_base_/recipes/apprentice.py']

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
