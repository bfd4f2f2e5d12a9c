"""Depth from a teacher whose scale and shift do not count, for any depth estimator of kddense: whole maps, crops, slopes."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(relative=dict(type='kddense.RelativeDepthObjective', local=0.5, trim=0.0))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
