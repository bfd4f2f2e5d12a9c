"""Soft targets per pixel on CamVid with every tenth label: in each batch as many images without a label."""

_base_ = [
    '../skd/fpn_r18-w16_camvid_tenth.py',
    '../_base_/recipes/hinton.py',
    '../_base_/datasets/camvid_unlabelled.py',
]

default_hooks = dict(unlabelled=_base_.unlabelled)
model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/fpn_lite2_camvid_tenth.py',
        checkpoint='work_dirs/camvid_tenth/teacher/iter_350.pth',
        channels_last=True,
    ),
    **_base_.distiller,
)
