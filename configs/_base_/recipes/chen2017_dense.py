"""Chen et al. 2017 for any one-stage detector of mmdet: its dense head, and a hint; put it behind the student's config."""

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
objectives = dict(
    dense=dict(type='kddense.ChenDenseObjective'),
    hint=dict(type='kddense.HintObjective'),
)
