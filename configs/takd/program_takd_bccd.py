"""TAKD on BCCD: teacher, ever smaller assistants, student; beside them the direct way and the plain student."""

small, large = 'kddense::skd/fcos_r18-w16_fpn_bccd.py', 'kddense::skd/fcos_r18_fpn_bccd.py'
soft = 'kddense::takd/takd_lite2_r18-w16_fcos_fpn_bccd.py'
assistants = 1  # any number; the first is the largest
seeds, plain = [0, 1, 2], 'plain'
links = dict(
    teacher=dict(config='kddense::skd/fcos_lite2_fpn_bccd.py', seed=0),
    plain=dict(config=small),
    direct=dict(config=soft, teacher='teacher'),
    longer=dict(config=small, same_time=['plain', 'takd']),
)
above = 'teacher'
for place in range(assistants):
    at = (place + 1) / (assistants + 1)
    links[f'assistant_{place + 1}'] = dict(config=soft, student=dict(between=[large, small], at=at), teacher=above)
    above = f'assistant_{place + 1}'
links['takd'] = dict(config=soft, teacher=above)
