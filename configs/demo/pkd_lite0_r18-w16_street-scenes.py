"""The student of the demo, taught with PKD: what correlates with the teacher's pyramid, level by level."""

_base_ = ['./faster-rcnn_r18-w16_street-scenes.py', '../_base_/recipes/pkd.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::demo/faster-rcnn_lite0_street-scenes.py',
        checkpoint='work_dirs/demo/teacher/epoch_5.pth',
    ),
    **_base_.distiller,
)
