"""CIRKD (Yang et al. 2022) for any segmentor, detector or depth estimator: how places resemble those of other images."""

objectives = dict(cirkd=dict(type='kddense.CIRKDObjective'))
