"""DeFeat (Guo et al. 2021) for two-stage detectors: features and classes, foreground and background apart."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    features=dict(type='kddense.DeFeatObjective'),
    classes=dict(type='kddense.DeFeatClassObjective'),
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
