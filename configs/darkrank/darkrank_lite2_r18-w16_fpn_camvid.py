"""DarkRank on CamVid: how each image ranks the others of its batch; student and teacher of structured distillation.

The teacher is trained first: see README.md.
"""

_base_ = ['../skd/fpn_r18-w16_camvid.py', '../_base_/recipes/darkrank.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/fpn_lite2_camvid.py',
        checkpoint='work_dirs/camvid_fpn/teacher/iter_700.pth',
        precision='fp32',
    ),
    **_base_.distiller,
)
