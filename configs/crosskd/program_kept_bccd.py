"""CrossKD and PKD on BCCD: answers kept, none there when a run begins; the plain student of that time."""

small, kept = 'kddense::skd/fcos_r18-w16_fpn_bccd.py', 'kddense::crosskd/crosskd-cached_lite2_r18-w16_fcos_fpn_bccd.py'
answers = dict(type='kddense.CachedTeacher', link='teacher', precision='fp32', variants=2)
seeds, plain = [0, 1, 2], 'plain'
links = dict(
    teacher=dict(config='kddense::skd/fcos_lite2_fpn_bccd.py', seed=0),
    plain=dict(config=small),
    crosskd=dict(config=kept, teacher=dict(answers, folder='{crosskd.work_dir}/answers')),
    pkd=dict(
        config=kept,
        teacher=dict(answers, folder='{pkd.work_dir}/answers'),
        options={'model.objectives': 'pkd_one_stage'},
    ),
    longer=dict(config=small, same_time=['plain', 'crosskd']),
)
