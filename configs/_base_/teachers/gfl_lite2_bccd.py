"""GFL on EfficientNet-Lite2 as a teacher on BCCD: ``kddense train configs/ld/gfl_lite2_fpn_bccd.py``."""

teacher = dict(
    config='kddense::ld/gfl_lite2_fpn_bccd.py',
    checkpoint='work_dirs/bccd_gfl/teacher_lite2/epoch_12.pth',
    precision='fp32',
)
