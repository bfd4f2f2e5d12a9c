"""Saputra et al. 2019 for any depth estimator of kddense: imitation and hint; put it beside the student's config."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    imitation=dict(type='kddense.AttentiveDepthObjective'),
    hint=dict(type='kddense.AttentiveDepthHintObjective'),
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
