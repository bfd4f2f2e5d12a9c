"""MGD and CWD on CamVid, of the same student from the same teacher as structured distillation there."""

_base_ = ['../skd/fpn_r18-w16_camvid.py', '../_base_/recipes/mgd_segmentation.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/fpn_lite2_camvid.py',
        checkpoint='work_dirs/camvid_fpn/teacher/iter_700.pth',
        precision='bf16',
        channels_last=True,
    ),
    **_base_.distiller,
)
