"""PKD (Cao et al. 2022) for one-stage detectors of mmdet: as for two-stage ones, with 10 for each level."""

_base_ = './pkd.py'
objectives = dict(pkd=dict(weight=40))
distiller = dict(objectives=objectives)
