"""Few labels of BCCD and all its images, for twice as long, answers kept; and the plain student for longer still."""

small = 'kddense::skd/fcos_r18-w16_fpn_bccd_tenth.py'
chen = 'kddense::chen2017/chen-cached-unlabelled_lite2_r18-w16_fcos_fpn_bccd_tenth.py'
structured = 'kddense::skd/skd-cached-unlabelled_lite2_r18-w16_fcos_fpn_bccd_tenth.py'
answers = dict(type='kddense.CachedTeacher', link='teacher', precision='fp32', variants=2)
epochs, seeds, plain = 16, [0, 1, 2, 3, 4], 'plain'


def kept(name):
    return dict(answers, folder=f'{{{name}.work_dir}}/answers')


links = dict(
    teacher=dict(config='kddense::skd/fcos_lite2_fpn_bccd_tenth.py', seed=0),
    plain=dict(config=small, steps=epochs),
    chen=dict(config=chen, steps=epochs, teacher=kept('chen')),
    structured=dict(config=structured, steps=epochs, teacher=kept('structured')),
    soft=dict(config=chen, steps=epochs, teacher=kept('soft'), options={'model.objectives': 'hinton_dense'}),
    review=dict(config=chen, steps=epochs, teacher=kept('review'), options={'model.objectives': 'reviewkd'}),
    longer=dict(config=small, same_time=['plain', 'chen']),
    twice=dict(config=small, steps=2 * epochs),
)
