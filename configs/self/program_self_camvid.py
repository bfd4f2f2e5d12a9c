"""Self attention distillation on CamVid: from half of the training on, from the beginning, and the plain student."""

small, own = 'kddense::skd/fpn_r18-w16_camvid.py', 'kddense::self/self_r18-w16_fpn_camvid.py'
seeds, plain = [0, 1, 2], 'plain'
links = dict(
    plain=dict(config=small),
    self=dict(config=own),
    from_the_start=dict(config=own, options={'model.objectives.self.weight': dict(_delete_=True, value=0.1)}),
    longer=dict(config=small, same_time=['plain', 'self']),
)
