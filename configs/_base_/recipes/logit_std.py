"""Soft targets of standardised logits (Sun et al. 2024) for any segmentor of mmseg."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    logits=dict(
        type='kddense.FeatureObjective',
        tap='decode_head',
        loss=dict(type='kddense.HintonLoss', temperature=2, standardize=True),
    )
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
