"""RKD (Park et al. 2019): distances and angles among the RoIs of a batch; in models without RoIs, among its images."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    rkd=dict(type='kddense.RelationObjective', loss=dict(type='kddense.RKDLoss'))  # 25 of distances, 50 of angles
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
