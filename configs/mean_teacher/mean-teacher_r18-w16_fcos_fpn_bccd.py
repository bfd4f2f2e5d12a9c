"""Mean teacher on BCCD: soft classes from the running average of the student itself."""

_base_ = ['../skd/fcos_r18-w16_fpn_bccd.py', '../_base_/recipes/hinton_dense.py']

model = dict(
    student=_base_.model,
    teacher=dict(type='kddense.AverageTeacher', config=dict(model=_base_.model), momentum=0.01),
    **_base_.distiller,
)
default_hooks = dict(average=dict(type='kddense.AverageTeacherHook'))
