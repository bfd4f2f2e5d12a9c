"""The FCOS teacher of BCCD with every tenth label: ``kddense train configs/skd/fcos_lite2_fpn_bccd_tenth.py``."""

teacher = dict(
    config='kddense::skd/fcos_lite2_fpn_bccd_tenth.py', checkpoint='work_dirs/bccd_tenth/teacher/epoch_12.pth'
)
