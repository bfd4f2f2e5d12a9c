"""Attentive imitation's two stages on BCCD: the pyramid learns the hint, and rests while the head learns the boxes."""

_base_ = ['../skd/fcos_r18-w16_fpn_bccd.py', '../_base_/recipes/ail_boxes.py']

_base_.distiller.objectives.hint = dict(type='kddense.HintObjective')
model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/fcos_lite2_fpn_bccd.py', checkpoint='work_dirs/bccd_fcos_lite2/teacher/epoch_12.pth'
    ),
    **_base_.distiller,
)
stages = [dict(until=0.5, losses=['hint'], rest='bbox_head'), dict(losses=['task', 'boxes'], rest='backbone|neck')]
default_hooks = dict(stages=dict(type='kddense.StagesHook', stages=stages))
