"""IFVD (Wang et al. 2020) for any segmentor, detector or depth estimator: how the features of a class spread."""

objectives = dict(ifvd=dict(type='kddense.IFVDObjective'))
