"""Hinton et al. 2014 for any segmentor of mmseg: soft classes per pixel; put it beside the student's config."""

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
objectives = dict(
    logits=dict(type='kddense.FeatureObjective', tap='decode_head', loss=dict(type='kddense.HintonLoss', temperature=1))
)
