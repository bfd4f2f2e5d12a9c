"""AKD on BCCD, after the searches: the students that won with the teacher and alone, each trained whole in both ways."""

small, soft = 'kddense::skd/fcos_r18-w16_fpn_bccd.py', 'kddense::takd/takd_lite2_r18-w16_fcos_fpn_bccd.py'
width = {'backbone.base_channels': 32, 'neck.in_channels': [32, 64, 128, 256]}
taught_best = {'neck.out_channels': 96, 'bbox_head.in_channels': 96, 'bbox_head.feat_channels': 96, **width}
alone_best = {
    'neck.out_channels': 64,
    'bbox_head.in_channels': 64,
    'bbox_head.feat_channels': 64,
    'backbone.depth': 34,
    **width,
}
plainly, distilled = [
    [{f'model.{part}{key}': one for key, one in best.items()} for best in (taught_best, alone_best)]
    for part in ('', 'student.')
]
seeds, plain = [0, 1, 2], 'plain'
links = dict(
    teacher=dict(config='kddense::skd/fcos_lite2_fpn_bccd.py', seed=0),
    plain=dict(config=small, options=plainly[0]),
    taught=dict(config=soft, teacher='teacher', options=distilled[0]),
    other_plain=dict(config=small, options=plainly[1]),
    other_taught=dict(config=soft, teacher='teacher', options=distilled[1]),
    longer=dict(config=small, options=plainly[0], same_time=['plain', 'taught']),
)
