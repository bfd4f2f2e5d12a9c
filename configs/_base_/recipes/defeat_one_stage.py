"""DeFeat (Guo et al. 2021) for one-stage detectors: features of foreground and background apart."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(features=dict(type='kddense.DeFeatObjective'))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
