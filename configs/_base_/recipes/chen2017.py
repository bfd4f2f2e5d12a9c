"""Chen et al. 2017 for any two-stage detector of mmdet; put it beside the student's config in ``_base_``."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    rpn=dict(type='kddense.ChenRPNObjective'),
    roi=dict(type='kddense.ChenRoIObjective'),
    hint=dict(type='kddense.HintObjective'),
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
