"""All of structured distillation on CamVid, from a teacher with ImageNet weights: PI + PA + HO."""

_base_ = ['./fpn_r18-w16_camvid.py', '../_base_/recipes/skd.py']

model = dict(
    _delete_=True,
    type='kddense.Distiller',
    student={{_base_.model}},
    teacher=dict(
        config='kddense::skd/fpn_lite2_camvid.py',
        checkpoint='work_dirs/camvid_fpn/teacher/iter_700.pth',
        precision='bf16',
        channels_last=True,
    ),
    objectives=dict(
        pixel={{_base_.objectives.pixel}},
        pair={{_base_.objectives.pair}},
        holistic=dict(type='kddense.HolisticObjective', discriminator=dict(channels=16)),
    ),
)
optim_wrapper = {{_base_.joint_optim_wrapper}}
