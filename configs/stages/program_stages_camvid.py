"""Stages on CamVid: the staged training, the same objectives all at once, and the plain student beside it."""

small, staged = 'kddense::skd/fpn_r18-w16_camvid.py', 'kddense::stages/stages_lite2_r18-w16_fpn_camvid.py'
seeds, plain = [0, 1, 2], 'plain'
links = dict(
    teacher=dict(config='kddense::skd/fpn_lite2_camvid.py', seed=0),
    plain=dict(config=small),
    joint=dict(config=staged, teacher='teacher', options={'default_hooks.stages.stages': [dict()]}),
    staged=dict(config=staged, teacher='teacher'),
    longer=dict(config=small, same_time=['plain', 'staged']),
)
