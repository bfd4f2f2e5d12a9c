"""Privileged information on BCCD, in two steps: a teacher of clean images, then a student of degraded ones."""

small, imitating = (
    'kddense::privileged/fcos_r18-w16_fpn_bccd-degraded.py',
    'kddense::privileged/privileged_lite2_r18-w16_fcos_fpn_bccd.py',
)
seeds, plain = [0, 1, 2], 'plain'
links = dict(
    teacher=dict(config='kddense::skd/fcos_lite2_fpn_bccd.py', seed=0),
    plain=dict(config=small),
    privileged=dict(config=imitating, teacher=dict(link='teacher', image='teacher_img')),
    not_privileged=dict(config=imitating, teacher=dict(link='teacher', image='student')),
    harder=dict(
        config=imitating,
        teacher=dict(link='teacher', image='teacher_img'),
        options={'model.objectives.imitation.temperature': 1.0},
    ),
    longer=dict(config=small, same_time=['plain', 'privileged']),
)
