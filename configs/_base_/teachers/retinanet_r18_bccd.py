"""RetinaNet on a full ResNet-18 as a teacher on BCCD: ``kddense train configs/pkd/retinanet_r18_fpn_bccd.py``."""

teacher = dict(
    config='kddense::pkd/retinanet_r18_fpn_bccd.py',
    checkpoint='work_dirs/bccd_retinanet/teacher/epoch_24.pth',
    precision='fp32',
)
