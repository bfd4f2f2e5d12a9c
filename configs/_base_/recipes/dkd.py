"""DKD (Zhao et al. 2022) for any segmentor or detector: soft targets, the true class apart from the others."""

objectives = dict(dkd=dict(type='kddense.DKDObjective'))
