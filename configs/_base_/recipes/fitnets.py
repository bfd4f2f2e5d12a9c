"""FitNets (Romero et al. 2015) for any model with a backbone: a regressor from one of its stages to the teacher's."""

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
objectives = dict(
    hint=dict(type='kddense.FeatureObjective', tap='backbone', levels=[2], connector=dict(type='kddense.Connector'))
)
