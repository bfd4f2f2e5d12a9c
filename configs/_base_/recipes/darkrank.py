"""DarkRank (Chen et al. 2018): how each RoI ranks the others of the batch; in models without RoIs, each image."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    darkrank=dict(
        type='kddense.RelationObjective',
        loss=dict(type='kddense.DarkRankLoss'),
        weight=16,  # the authors', for the soft form
    )
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
