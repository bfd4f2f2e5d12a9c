"""ESKD on CamVid: distillation that ends early, by the clock or by agreement; teachers that ended early; the usual way."""

small, soft, teacher = (
    'kddense::skd/fpn_r18-w16_camvid.py',
    'kddense::hinton/hinton_lite2_r18-w16_fpn_camvid.py',
    'kddense::skd/fpn_lite2_camvid.py',
)
every = {'default_hooks.checkpoint.interval': 70, 'default_hooks.checkpoint.max_keep_ckpts': -1}
weight = 'model.objectives.logits.weight'
fresh = [dict(until=0.33), dict(losses=['task'], fresh_optimizer=True)]
stages = dict(type='kddense.StagesHook', stages=fresh)
seeds, plain = [0, 1, 2], 'plain'
links = dict(
    teacher=dict(config=teacher, options=every, seed=0),
    short_teacher=dict(config=teacher, steps=230, seed=0),
    plain=dict(config=small),
    to_the_end=dict(config=soft, teacher='teacher'),
    a_third=dict(config=soft, teacher='teacher', options={weight: dict(value=1.0, stop=0.33)}),
    a_third_fresh=dict(config=soft, teacher='teacher', options={'default_hooks.stages': stages}),
    while_it_helps=dict(config=soft, teacher='teacher', options={weight: dict(value=1.0, stop_below=0.0)}),
    of_the_short=dict(config=soft, teacher='short_teacher'),
    longer=dict(config=small, same_time=['plain', 'to_the_end']),
)
for number in (140, 350):  # the sweep: which of its checkpoints teaches best
    early = dict(config='{teacher.config}', checkpoint='{teacher.work_dir}' + f'/iter_{number}.pth')
    links[f'of_{number}'] = dict(config=soft, teacher=early)
