"""Several teachers on BCCD: the mean of what they say, place by place, and each alone."""

small, soft = 'kddense::skd/fcos_r18-w16_fpn_bccd.py', 'kddense::takd/takd_lite2_r18-w16_fcos_fpn_bccd.py'
mean = dict(type='kddense.EnsembleTeacher', members=[dict(link='lite2'), dict(link='r18')])
seeds, plain = [0, 1, 2], 'plain'
links = dict(
    lite2=dict(config='kddense::skd/fcos_lite2_fpn_bccd.py', seed=0),
    r18=dict(config='kddense::skd/fcos_r18_fpn_bccd.py', seed=0),
    plain=dict(config=small),
    of_lite2=dict(config=soft, teacher='lite2'),
    of_r18=dict(config=soft, teacher='r18'),
    of_the_mean=dict(config=soft, teacher=mean),
    longer=dict(config=small, same_time=['plain', 'of_the_mean']),
)
