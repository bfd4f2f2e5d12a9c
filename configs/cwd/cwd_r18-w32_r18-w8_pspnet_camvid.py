"""Channel-wise distillation on CamVid, of the same student from the same teacher as structured distillation there."""

_base_ = ['../skd/pspnet_r18-w8_camvid.py', '../_base_/recipes/cwd.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/pspnet_r18-w32_camvid.py',
        checkpoint='work_dirs/camvid/teacher/iter_1600.pth',
        precision='bf16',
        channels_last=True,
    ),
    **_base_.distiller,
)
