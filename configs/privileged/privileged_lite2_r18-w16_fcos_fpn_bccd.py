"""Generalized distillation on BCCD: a teacher that sees the clean image behind the student's."""

_base_ = './fcos_r18-w16_fpn_bccd-degraded.py'

imitation = dict(type='kddense.PrivilegedObjective', temperature=2.0, weight=10.0)  # a mean over all places is small
model = dict(
    _delete_=True,
    type='kddense.Distiller',
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/fcos_lite2_fpn_bccd.py',
        checkpoint='work_dirs/bccd_fcos_lite2/teacher/epoch_12.pth',
        image='teacher_img',
    ),
    objectives=dict(imitation=imitation),
)
