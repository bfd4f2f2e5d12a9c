"""Soft targets for the sigmoid classes of any one-stage detector of mmdet; put it behind the student's config."""

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
objectives = dict(soft=dict(type='kddense.DenseHintonObjective', weight=10.0))  # a mean over all places is small
