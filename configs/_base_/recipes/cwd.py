"""Shu et al. 2021 for any segmentor of mmseg: where in the image each class looks; put it behind the student's config."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(cwd=dict(type='kddense.CWDObjective'))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
