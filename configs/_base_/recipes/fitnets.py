"""FitNets (Romero et al. 2015) for any model with a backbone: a regressor from one of its stages to the teacher's."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    hint=dict(type='kddense.FeatureObjective', tap='backbone', levels=[2], connector=dict(type='kddense.Connector'))
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
