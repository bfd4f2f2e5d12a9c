"""DETRDistill (Chang et al. 2023), all three parts, for two detectors of one DETR family with as many decoder layers."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    detrdistill=dict(type='kddense.DETRDistillObjective'),
    target_aware=dict(type='kddense.TargetAwareObjective'),
    query_prior=dict(type='kddense.QueryPriorObjective'),
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
