"""Apprentice (Mishra, Marr 2018) for any segmentor or detector: soft targets for a student of 4-bit weights."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(apprentice=dict(type='kddense.ApprenticeObjective', weight=0.5))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives, task_weights={'.*': 0.5})
quantise = dict(type='kddense.QuantiseHook', weights=dict(type='kddense.WRPNQuantiser', bits=4))  # for default_hooks
