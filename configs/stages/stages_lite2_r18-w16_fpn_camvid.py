"""FitNets' two stages on CamVid: the hint alone, while neck and head rest; then the task with soft targets."""

_base_ = ['../skd/fpn_r18-w16_camvid.py', '../_base_/recipes/fitnets.py']

soft = dict(type='kddense.FeatureObjective', tap='decode_head', loss=dict(type='kddense.HintonLoss', temperature=3))
_base_.distiller.objectives.soft = {**soft, 'weight': dict(value=4, decay='linear', end_value=1)}  # the paper's λ and τ
model = dict(
    student=_base_.model,
    teacher=dict(config='kddense::skd/fpn_lite2_camvid.py', checkpoint='work_dirs/camvid_fpn/teacher/iter_700.pth'),
    **_base_.distiller,
)
stages = [dict(until=0.3, losses=['hint'], rest='neck|decode_head'), dict(losses=['task', 'soft'])]
default_hooks = dict(stages=dict(type='kddense.StagesHook', stages=stages))
