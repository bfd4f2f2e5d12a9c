"""Soft targets for the sigmoid classes of any one-stage detector of mmdet; put it behind the student's config."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(soft=dict(type='kddense.DenseHintonObjective', weight=10.0))  # a mean over all places is small
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
