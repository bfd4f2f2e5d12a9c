"""Deep mutual learning on BCCD: with a larger peer, with a peer of its own size, and the plain student."""

small, mutual = 'kddense::skd/fcos_r18-w16_fpn_bccd.py', 'kddense::mutual/mutual_r18-w16_fcos_fpn_bccd.py'
seeds, plain = [0, 1, 2], 'plain'
links = dict(
    plain=dict(config=small),
    larger_peer=dict(config=mutual),
    twin=dict(config=mutual, options={'model.objectives.mutual.peer': small}),
    longer=dict(config=small, same_time=['plain', 'twin']),
)
