"""AKD on CamVid, after the search: the student that won it, trained whole, alone, with its teacher and for as long."""

small, soft = 'kddense::skd/fpn_r18-w16_camvid.py', 'kddense::hinton/hinton_lite2_r18-w16_fpn_camvid.py'
found = {'neck.out_channels': 64, 'decode_head.in_channels': [64] * 4, 'decode_head.channels': 64}
alone = {f'model.{key}': one for key, one in found.items()}
seeds, plain = [0, 1, 2], 'plain'
links = dict(
    teacher=dict(config='kddense::skd/fpn_lite2_camvid.py', seed=0),
    plain=dict(config=small, options=alone),
    taught=dict(config=soft, teacher='teacher', options={f'model.student.{key}': one for key, one in found.items()}),
    longer=dict(config=small, options=alone, same_time=['plain', 'taught']),
)
