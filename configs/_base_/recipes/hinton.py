"""Hinton et al. 2014 for any segmentor of mmseg: soft classes per pixel; put it beside the student's config."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    logits=dict(type='kddense.FeatureObjective', tap='decode_head', loss=dict(type='kddense.HintonLoss', temperature=1))
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
