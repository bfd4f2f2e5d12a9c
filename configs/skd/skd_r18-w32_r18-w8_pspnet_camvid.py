"""All of structured distillation on CamVid: PI + PA + HO, the discriminator narrow as the networks are.

PI is KL(student ‖ teacher), the paper's text, with which the recorded table was made.
"""

_base_ = ['./pspnet_r18-w8_camvid.py', '../_base_/recipes/skd.py']

_base_.distiller.objectives.pixel.direction = 'student_teacher'
_base_.distiller.objectives.holistic.discriminator = dict(channels=16)
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
optim_wrapper = _base_.joint_optim_wrapper
