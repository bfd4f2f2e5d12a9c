"""All of structured distillation on CamVid: PI + PA + HO."""

_base_ = ['./pspnet_r18-w8_camvid.py', '../_base_/recipes/skd.py']

model = dict(
    _delete_=True,
    type='kddense.Distiller',
    student={{_base_.model}},
    teacher=dict(
        config='configs/skd/pspnet_r18-w32_camvid.py',
        checkpoint='work_dirs/camvid/teacher/iter_1600.pth',
        precision='bf16',
        channels_last=True,
    ),
    objectives={{_base_.objectives}},
)
optim_wrapper = {{_base_.joint_optim_wrapper}}
