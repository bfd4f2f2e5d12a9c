"""Generalized distillation on CamVid: a teacher that sees the clean image behind the student's."""

_base_ = './fpn_r18-w16_camvid-degraded.py'

imitation = dict(type='kddense.PrivilegedObjective', temperature=2.0, weight=0.5)  # the paper's T and λ
model = dict(
    _delete_=True,
    type='kddense.Distiller',
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/fpn_lite2_camvid.py',
        checkpoint='work_dirs/camvid_fpn/teacher/iter_700.pth',
        image='teacher_img',
    ),
    objectives=dict(imitation=imitation),
    task_weights={'decode.loss_ce': 0.5},
)
