"""INT8 quantisation-aware training with a teacher, for any config: what heads share correlates with the teacher's.

The teacher is that of the float student, or the float student itself. Without one, `quantise` alone is the training.
"""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(features=dict(type='kddense.FeatureObjective', loss=dict(type='kddense.PKDLoss'), weight=24))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
quantise = dict(  # for default_hooks
    type='kddense.QuantiseHook',
    weights=dict(type='kddense.UniformQuantiser', bits=8),
    activations=dict(type='kddense.MinMaxQuantiser', bits=8, freeze_after=1000),
    fold_norms=True,
)
