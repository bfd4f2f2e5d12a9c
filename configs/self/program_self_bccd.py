"""Self attention distillation on BCCD: from half of the training on, from the beginning, and the plain student."""

small, own = 'kddense::skd/fcos_r18-w16_fpn_bccd.py', 'kddense::self/self_r18-w16_fcos_fpn_bccd.py'
seeds, plain = [0, 1, 2], 'plain'
links = dict(
    plain=dict(config=small),
    self=dict(config=own),
    from_the_start=dict(config=own, options={'model.objectives.self.weight': dict(_delete_=True, value=0.1)}),
    longer=dict(config=small, same_time=['plain', 'self']),
)
