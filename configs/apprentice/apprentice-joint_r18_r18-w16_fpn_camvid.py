"""Apprentice on CamVid, scheme A: teacher and apprentice learn together, both from random weights."""

_base_ = ['../skd/fpn_r18-w16_camvid.py', '../_base_/recipes/apprentice.py']

# The teacher learns the task alone: what the apprentice says weighs 0.
joint = dict(
    type='kddense.MutualObjective',
    peer='kddense::takd/fpn_r18_camvid.py',
    peer_weight=0.0,
    compare=dict(type='kddense.ApprenticeObjective', on='decode_head', weight=0.5),
)
model = dict(
    _delete_=True,
    type='kddense.Distiller',
    student=_base_.model,
    objectives=dict(apprentice=joint),
    task_weights=_base_.distiller.task_weights,
)
default_hooks = dict(quantise=_base_.quantise, peer=dict(type='kddense.PeerHook'))
