"""Attention transfer by gradients (2017), for models without RoIs: how the own loss depends on each pixel."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(at=dict(type='kddense.GradientATObjective'))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
