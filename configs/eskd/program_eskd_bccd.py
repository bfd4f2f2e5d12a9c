"""ESKD on BCCD: distillation that ends early, by the clock or by agreement; teachers that ended early; the usual way."""

small, soft, teacher = (
    'kddense::skd/fcos_r18-w16_fpn_bccd.py',
    'kddense::takd/takd_lite2_r18-w16_fcos_fpn_bccd.py',
    'kddense::skd/fcos_lite2_fpn_bccd.py',
)
every = {'default_hooks.checkpoint.interval': 1, 'default_hooks.checkpoint.max_keep_ckpts': -1}
weight = 'model.objectives.soft.weight'
seeds, plain = [0, 1, 2], 'plain'
links = dict(
    teacher=dict(config=teacher, options=every, seed=0),
    short_teacher=dict(config=teacher, steps=4, seed=0),
    plain=dict(config=small),
    to_the_end=dict(config=soft, teacher='teacher'),
    a_third=dict(config=soft, teacher='teacher', options={weight: dict(_delete_=True, value=10.0, stop=0.33)}),
    while_it_helps=dict(
        config=soft, teacher='teacher', options={weight: dict(_delete_=True, value=10.0, stop_below=0.0)}
    ),
    of_the_short=dict(config=soft, teacher='short_teacher'),
    longer=dict(config=small, same_time=['plain', 'to_the_end']),
)
for number in (3, 6):  # the sweep: which of its checkpoints teaches best
    early = dict(config='{teacher.config}', checkpoint='{teacher.work_dir}' + f'/epoch_{number}.pth')
    links[f'of_{number}'] = dict(config=soft, teacher=early)
