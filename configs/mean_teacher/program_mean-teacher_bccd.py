"""Mean teacher on BCCD, with and without a warm-up of its weight, and the plain student beside it."""

small, mean = 'kddense::skd/fcos_r18-w16_fpn_bccd.py', 'kddense::mean_teacher/mean-teacher_r18-w16_fcos_fpn_bccd.py'
weight = 'model.objectives.soft.weight'
seeds, plain = [0, 1, 2], 'plain'
links = dict(
    plain=dict(config=small),
    mean_teacher=dict(config=mean),
    warmed_up=dict(config=mean, options={weight: dict(_delete_=True, value=10.0, warmup=0.4)}),
    longer=dict(config=small, same_time=['plain', 'mean_teacher']),
)
