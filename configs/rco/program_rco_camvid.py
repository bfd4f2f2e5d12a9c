"""RCO on CamVid: anchors at equal intervals, greedy ones, with restarts; the last teacher alone, and the plain student."""

small, soft = 'kddense::skd/fpn_r18-w16_camvid.py', 'kddense::hinton/hinton_lite2_r18-w16_fpn_camvid.py'
every = {'default_hooks.checkpoint.interval': 70, 'default_hooks.checkpoint.max_keep_ckpts': -1}
equal = dict(folder='{teacher.work_dir}', anchors=4)


def hook(**options):
    """Return the option that adds a route."""
    return {'default_hooks.route': dict(type='kddense.RouteHook', **options)}


seeds, plain = [0, 1, 2], 'plain'
links = dict(
    teacher=dict(config='kddense::skd/fpn_lite2_camvid.py', options=every, seed=0),
    plain=dict(config=small),
    last=dict(config=soft, teacher='teacher'),
    rco=dict(config=soft, teacher='teacher', options=hook(route=equal)),
    greedy=dict(config=soft, teacher='teacher', options=hook(route=dict(equal, how='greedy'))),
    restarts=dict(config=soft, teacher='teacher', options=hook(route=equal, restart=True)),
    longer=dict(config=small, same_time=['plain', 'rco']),
)
