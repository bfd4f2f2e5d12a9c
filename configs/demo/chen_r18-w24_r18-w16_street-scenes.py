"""The student of the demo, taught with all of Chen et al. 2017."""

_base_ = ['./faster-rcnn_r18-w16_street-scenes.py', '../_base_/recipes/chen2017.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::demo/faster-rcnn_r18-w24_street-scenes.py',
        checkpoint='work_dirs/demo/teacher/epoch_6.pth',
    ),
    **_base_.distiller,
)
