"""All of structured distillation for FCOS on BCCD: the quarter-width student learns from the full ResNet-18.

PI is KL(student ‖ teacher), the paper's text, with which the recorded table was made.
"""

_base_ = ['./fcos_r18-w16_fpn_bccd.py', '../_base_/recipes/skd_detection.py']

model = dict(
    _delete_=True,
    type='kddense.Distiller',
    student={{_base_.model}},
    teacher=dict(
        config='kddense::skd/fcos_r18_fpn_bccd.py',
        checkpoint='work_dirs/bccd_fcos/teacher/epoch_24.pth',
        precision='fp32',
    ),
    objectives=dict(
        pixel=dict(type='kddense.PixelWiseObjective', on='bbox_head', direction='student_teacher'),
        pair={{_base_.objectives.pair}},
        holistic=dict(type='kddense.HolisticObjective', on='bbox_head', discriminator=dict(channels=16)),
    ),
)
optim_wrapper = {{_base_.joint_optim_wrapper}}
