"""RCO on BCCD: anchors at equal intervals, greedy ones, with restarts; the last teacher alone, and the plain student."""

small, soft = 'kddense::skd/fcos_r18-w16_fpn_bccd.py', 'kddense::takd/takd_lite2_r18-w16_fcos_fpn_bccd.py'
every = {'default_hooks.checkpoint.interval': 1, 'default_hooks.checkpoint.max_keep_ckpts': -1}
equal = dict(folder='{teacher.work_dir}', anchors=4)


def hook(**options):
    """Return the option that adds a route."""
    return {'default_hooks.route': dict(type='kddense.RouteHook', **options)}


seeds, plain = [0, 1, 2], 'plain'
links = dict(
    teacher=dict(config='kddense::skd/fcos_lite2_fpn_bccd.py', options=every, seed=0),
    plain=dict(config=small),
    last=dict(config=soft, teacher='teacher'),
    rco=dict(config=soft, teacher='teacher', options=hook(route=equal)),
    greedy=dict(config=soft, teacher='teacher', options=hook(route=dict(equal, how='greedy'))),
    restarts=dict(config=soft, teacher='teacher', options=hook(route=equal, restart=True)),
    longer=dict(config=small, same_time=['plain', 'rco']),
)
