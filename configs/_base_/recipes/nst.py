"""Neuron selectivity transfer (Huang and Wang 2017) for any model with a backbone: what its last stage responds to."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    nst=dict(
        type='kddense.FeatureObjective',
        tap='backbone',
        levels=[-1],
        loss=dict(type='kddense.NSTLoss'),
        weight=50,  # the authors'
    )
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
