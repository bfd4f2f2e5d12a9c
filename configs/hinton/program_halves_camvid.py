"""Few labels of CamVid, and images without one in their place: half of each batch, what the teacher says of it kept.

The first student of each kind fills the folder; those after it read, so that a step costs about what a plain one does.
"""

small = 'kddense::skd/fpn_r18-w16_camvid_tenth.py'
soft = 'kddense::hinton/hinton-halves_lite2_r18-w16_fpn_camvid_tenth.py'
structured = 'kddense::skd/skd-halves_lite2_r18-w16_fpn_camvid_tenth.py'
kept = dict(type='kddense.CachedTeacher', link='teacher', folder='work_dirs/program_halves_camvid/answers')
seeds, plain = [0, 1, 2], 'plain'
links = dict(
    teacher=dict(config='kddense::skd/fpn_lite2_camvid_tenth.py', seed=0),
    plain=dict(config=small),
    first_soft_targets=dict(config=soft, teacher=kept, seed=100),
    soft_targets=dict(config=soft, teacher=kept),
    longer=dict(config=small, same_time=['plain', 'soft_targets']),
    first_structured=dict(config=structured, teacher=kept, seed=100),
    structured=dict(config=structured, teacher=kept),
    longer_still=dict(config=small, same_time=['plain', 'structured']),
)
