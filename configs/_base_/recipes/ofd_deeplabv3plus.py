"""OFD (Heo et al. 2019) for DeepLabV3+, as the authors have it: four stages, ASPP and decoder, with their weights."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    ofd=dict(
        type='kddense.OFDObjective',
        parts=['backbone', 'decode_head.bottleneck', 'decode_head.sep_bottleneck'],
        level_weights=[1 / 8, 1 / 4, 1 / 2, 1, 1, 1 / 16],
    )
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
