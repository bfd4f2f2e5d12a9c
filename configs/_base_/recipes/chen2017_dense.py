"""Chen et al. 2017 for any one-stage detector of mmdet: its dense head, and a hint; put it behind the student's config."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    dense=dict(type='kddense.ChenDenseObjective'),
    hint=dict(type='kddense.HintObjective'),
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
