"""All of structured distillation on CamVid, from a teacher with ImageNet weights: PI + PA + HO."""

_base_ = ['./fpn_r18-w16_camvid.py', '../_base_/recipes/skd.py']

_base_.distiller.objectives.holistic.discriminator = dict(channels=16)
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
optim_wrapper = _base_.joint_optim_wrapper
