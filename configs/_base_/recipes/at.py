"""Attention transfer (Zagoruyko and Komodakis 2017) for any model with a backbone: where each of its resolutions looks."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(at=dict(type='kddense.ATObjective'))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
