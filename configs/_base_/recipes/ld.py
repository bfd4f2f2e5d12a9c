"""Zheng et al. 2022 for GFL of mmdet: distributions of distances, at the positives and in the valuable region."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(ld=dict(type='kddense.LDObjective'))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
