"""DIST (Huang et al. 2022) for any segmentor or detector: how class probabilities correlate with the teacher's."""

objectives = dict(dist=dict(type='kddense.DISTObjective'))
