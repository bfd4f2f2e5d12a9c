"""Mean teacher on CamVid: soft classes from the running average of the student itself."""

_base_ = ['../skd/fpn_r18-w16_camvid.py', '../_base_/recipes/hinton.py']

model = dict(
    student=_base_.model,
    teacher=dict(type='kddense.AverageTeacher', config=dict(model=_base_.model), momentum=0.01),
    **_base_.distiller,
)
default_hooks = dict(average=dict(type='kddense.AverageTeacherHook'))
