"""FGFI (Wang et al. 2019) for detectors with anchors: features near objects alone, once the detector knows a little."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    fgfi=dict(type='kddense.FGFIObjective', weight=dict(value=0.01, start=400))  # iterations, as in the authors' code
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
