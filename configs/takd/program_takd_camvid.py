"""TAKD on CamVid: teacher, ever smaller assistants, student; beside them the direct way and the plain student."""

small, large = 'kddense::skd/fpn_r18-w16_camvid.py', 'kddense::takd/fpn_r18_camvid.py'
soft = 'kddense::hinton/hinton_lite2_r18-w16_fpn_camvid.py'
assistants = 1  # any number; the first is the largest
seeds, plain = [0, 1, 2], 'plain'
links = dict(
    teacher=dict(config='kddense::skd/fpn_lite2_camvid.py', seed=0),
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
