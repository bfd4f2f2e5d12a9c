"""IFVD (Wang et al. 2020) for any segmentor, detector or depth estimator: how the features of a class spread."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(ifvd=dict(type='kddense.IFVDObjective'))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
