"""All of structured distillation for FCOS on BCCD: the quarter-width student learns from the full ResNet-18.

PI is KL(student ‖ teacher), the paper's text, with which the recorded table was made.
"""

_base_ = ['./fcos_r18-w16_fpn_bccd.py', '../_base_/recipes/skd_detection.py']

_base_.distiller.objectives.pixel.direction = 'student_teacher'
_base_.distiller.objectives.holistic.discriminator = dict(channels=16)
model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/fcos_r18_fpn_bccd.py',
        checkpoint='work_dirs/bccd_fcos/teacher/epoch_24.pth',
        precision='fp32',
    ),
    **_base_.distiller,
)
optim_wrapper = _base_.joint_optim_wrapper
