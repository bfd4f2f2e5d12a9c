"""The teacher on KITTI-style folders: a depth estimator on a ResNet-50, up to 80 metres."""

_base_ = [
    '../_base_/models/depth_r50.py',
    '../_base_/datasets/kitti_depth.py',
    'mmseg::_base_/schedules/schedule_40k.py',
    'mmseg::_base_/default_runtime.py',
]
custom_imports = dict(imports=['kddense'], allow_failed_imports=False)

model = dict(decode_head=dict(min_depth=1.0, max_depth=80.0))
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=10),
)
