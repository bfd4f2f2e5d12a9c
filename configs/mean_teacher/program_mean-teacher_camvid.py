"""Mean teacher on CamVid, with and without a warm-up of its weight, and the plain student beside it."""

small, mean = 'kddense::skd/fpn_r18-w16_camvid.py', 'kddense::mean_teacher/mean-teacher_r18-w16_fpn_camvid.py'
weight = 'model.objectives.logits.weight'
seeds, plain = [0, 1, 2], 'plain'
links = dict(
    plain=dict(config=small),
    mean_teacher=dict(config=mean),
    warmed_up=dict(config=mean, options={weight: dict(value=1.0, warmup=0.4)}),
    longer=dict(config=small, same_time=['plain', 'mean_teacher']),
)
