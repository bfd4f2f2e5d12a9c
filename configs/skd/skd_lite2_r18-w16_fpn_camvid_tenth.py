"""Structured distillation on CamVid with every tenth label, of the labelled images alone."""

_base_ = ['./fpn_r18-w16_camvid_tenth.py', '../_base_/recipes/skd.py']

_base_.distiller.objectives.holistic.discriminator = dict(channels=16)
model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/fpn_lite2_camvid_tenth.py',
        checkpoint='work_dirs/camvid_tenth/teacher/iter_350.pth',
        channels_last=True,
    ),
    **_base_.distiller,
)
optim_wrapper = _base_.joint_optim_wrapper
