"""Soft classes of the places of FCOS on BCCD: what each link of a chain learns by; here straight from the teacher."""

_base_ = ['../skd/fcos_r18-w16_fpn_bccd.py', '../_base_/recipes/hinton_dense.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/fcos_lite2_fpn_bccd.py', checkpoint='work_dirs/bccd_fcos_lite2/teacher/epoch_12.pth'
    ),
    **_base_.distiller,
)
