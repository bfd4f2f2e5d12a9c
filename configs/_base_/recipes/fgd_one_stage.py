"""FGD (Yang et al. 2022) for one-stage detectors with anchors: the authors' weights for RetinaNet."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    fgd=dict(type='kddense.FGDObjective', weight=5)
)  # the authors add up five levels; here they are averaged
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
