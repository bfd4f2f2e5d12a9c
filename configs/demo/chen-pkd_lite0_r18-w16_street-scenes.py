"""The student of the demo, taught with the classes and boxes of Chen et al. 2017, and with PKD instead of their hint."""

_base_ = ['./faster-rcnn_r18-w16_street-scenes.py', '../_base_/recipes/chen2017.py']

model = dict(
    _delete_=True,
    type='kddense.Distiller',
    student={{_base_.model}},
    teacher=dict(
        config='configs/demo/faster-rcnn_lite0_street-scenes.py',
        checkpoint='work_dirs/demo/teacher/epoch_5.pth',
    ),
    objectives=dict(
        rpn={{_base_.objectives.rpn}},
        roi={{_base_.objectives.roi}},
        pkd=dict(
            type='kddense.FeatureObjective',
            tap='neck',
            levels=[0, 1, 2, 3],
            loss=dict(type='kddense.PKDLoss'),
            weight=24,
        ),
    ),
)
