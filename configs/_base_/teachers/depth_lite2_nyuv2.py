"""EfficientNet-Lite2 as a teacher on NYUv2: ``kddense train configs/skd/depth_lite2_nyuv2.py``."""

teacher = dict(
    config='kddense::skd/depth_lite2_nyuv2.py',
    checkpoint='work_dirs/nyuv2/teacher_lite2/iter_1200.pth',
    precision='fp32',
)
