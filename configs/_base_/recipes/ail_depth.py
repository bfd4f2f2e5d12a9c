"""Saputra et al. 2019 for any depth estimator of kddense: imitation and hint; put it beside the student's config."""

# A student with kddense.DepthHead imports kddense itself: no custom_imports here, two bases may not both set it.
objectives = dict(
    imitation=dict(type='kddense.AttentiveDepthObjective'),
    hint=dict(type='kddense.AttentiveDepthHintObjective'),
)
