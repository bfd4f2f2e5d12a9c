"""CrossKD for GFL on BCCD: the quarter-width student learns from the full ResNet-18."""

_base_ = ['../ld/gfl_r18-w16_fpn_bccd.py', '../_base_/recipes/crosskd_gfl.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::ld/gfl_r18_fpn_bccd.py',
        checkpoint='work_dirs/bccd_gfl/teacher/epoch_24.pth',
        precision='fp32',
    ),
    **_base_.distiller,
)
