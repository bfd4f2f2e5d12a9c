"""Quantized distillation on CamVid with every tenth label and as many images without one."""

_base_ = ['./quantized_lite2_r18-w16_fpn_camvid.py', '../_base_/datasets/camvid_unlabelled.py']

train_dataloader = dict(dataset=dict(indices=list(range(0, 367, 10))))
default_hooks = dict(unlabelled=_base_.unlabelled)
model = dict(
    teacher=dict(
        config='kddense::skd/fpn_lite2_camvid_tenth.py', checkpoint='work_dirs/camvid_tenth/teacher/iter_350.pth'
    )
)
