"""Privileged information on NYUv2, in two steps: a teacher that is told some depths, then a student of images alone."""

small, imitating = (
    'kddense::skd/depth_r18-w8_nyuv2.py',
    'kddense::privileged/privileged_r18-sparse_r18-w8_depth_nyuv2.py',
)
seeds, plain = [0, 1, 2], 'plain'
links = dict(
    teacher=dict(config='kddense::privileged/depth_r18-sparse_nyuv2.py', seed=0),
    without=dict(config='kddense::skd/depth_r18_nyuv2.py', seed=0),
    plain=dict(config=small),
    privileged=dict(config=imitating, teacher=dict(link='teacher', image='teacher_img')),
    not_privileged=dict(config=imitating, teacher=dict(link='without', image='student')),
    longer=dict(config=small, same_time=['plain', 'privileged']),
)
