"""Shu et al. 2021 for any segmentor of mmseg: where in the image each class looks; put it behind the student's config."""

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
objectives = dict(cwd=dict(type='kddense.CWDObjective'))
