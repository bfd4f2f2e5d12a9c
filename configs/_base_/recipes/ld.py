"""Zheng et al. 2022 for GFL of mmdet: distributions of distances, at the positives and in the valuable region."""

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
objectives = dict(ld=dict(type='kddense.LDObjective'))
