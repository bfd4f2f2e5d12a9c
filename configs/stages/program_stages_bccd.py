"""Stages on BCCD: the staged training, the same objectives all at once, and the plain student beside it."""

small, staged = 'kddense::skd/fcos_r18-w16_fpn_bccd.py', 'kddense::stages/stages_lite2_r18-w16_fcos_fpn_bccd.py'
seeds, plain = [0, 1, 2], 'plain'
links = dict(
    teacher=dict(config='kddense::skd/fcos_lite2_fpn_bccd.py', seed=0),
    plain=dict(config=small),
    joint=dict(config=staged, teacher='teacher', options={'default_hooks.stages.stages': [dict()]}),
    staged=dict(config=staged, teacher='teacher'),
    longer=dict(config=small, same_time=['plain', 'staged']),
)
