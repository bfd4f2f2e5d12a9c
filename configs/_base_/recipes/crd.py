"""CRD (Tian et al. 2020) for any model with a backbone: vectors of images, of detectors those of boxes, against memories."""

objectives = dict(crd=dict(type='kddense.CRDObjective'))
