"""OFD (Heo et al. 2019) for any model with a convolutional backbone: values before the last ReLU of each stage."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(ofd=dict(type='kddense.OFDObjective'))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
