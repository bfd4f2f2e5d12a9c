"""What EfficientNet-Lite2's features give a student on CamVid before its labels, beside them, and both."""

student = 'kddense::skd/fpn_r18-w16_camvid.py'
distils = 'kddense::foundation/foundation_lite2_r18-w16_fpn_camvid.py'
pretrains = 'kddense::foundation/pretrain_lite2_r18-w16_fpn_camvid.py'
untested = {f'{split}_{part}': None for split in ('val', 'test') for part in ('cfg', 'dataloader', 'evaluator')}
seeds, plain = [0, 1, 2], 'plain'
links = dict(
    pretrain=dict(config=pretrains, options=untested),  # its heads have learned nothing
    plain=dict(config=student),
    pretrained=dict(config=student, options=dict(load_from='{pretrain.checkpoint}')),
    distilled=dict(config=distils),
    both=dict(config=distils, options=dict(load_from='{pretrain.checkpoint}')),
    longer=dict(config=student, same_time=['plain', 'both']),  # the way that takes longest
)
