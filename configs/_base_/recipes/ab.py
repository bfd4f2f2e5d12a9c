"""Activation boundaries (Heo et al. 2019) for any model with a convolutional backbone, and then the task alone."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
stage = 0.1  # of the training; RepDistiller has 30 of 270 epochs
objectives = dict(ab=dict(type='kddense.ABObjective', weight=dict(value=1e-3, stop=stage), alone=True))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
rest = dict(type='kddense.RestHook', parts={'neck|.*head': dict(stop=stage)})  # for default_hooks
