"""Chen et al. 2017 for any two-stage detector of mmdet; put it beside the student's config in ``_base_``."""

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
objectives = dict(
    rpn=dict(type='kddense.ChenRPNObjective'),
    roi=dict(type='kddense.ChenRoIObjective'),
    hint=dict(type='kddense.HintObjective'),
)
