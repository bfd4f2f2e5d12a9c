"""Several teachers on CamVid: their mean, their mean weighted by their errors on each pixel, and each alone."""

small, soft = 'kddense::skd/fpn_r18-w16_camvid.py', 'kddense::hinton/hinton_lite2_r18-w16_fpn_camvid.py'
members = [dict(link='lite2'), dict(link='r18')]
mean = dict(type='kddense.EnsembleTeacher', members=members)
seeds, plain = [0, 1, 2], 'plain'
links = dict(
    lite2=dict(config='kddense::skd/fpn_lite2_camvid.py', seed=0),
    r18=dict(config='kddense::takd/fpn_r18_camvid.py', seed=0),
    plain=dict(config=small),
    of_lite2=dict(config=soft, teacher='lite2'),
    of_r18=dict(config=soft, teacher='r18'),
    of_the_mean=dict(config=soft, teacher=mean),
    by_error=dict(config=soft, teacher=dict(mean, by='error')),
    longer=dict(config=small, same_time=['plain', 'of_the_mean']),
)
