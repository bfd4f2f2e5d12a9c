"""FGD (Yang et al. 2022) for two-stage detectors of mmdet: the pyramid inside and outside of the boxes, and its context."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    fgd=dict(
        type='kddense.FGDObjective',
        levels=[0, 1, 2, 3],
        foreground=5e-5,
        background=2.5e-5,
        attention=5e-5,
        relation=5e-7,
        weight=4,  # the authors add up the four levels; here they are averaged
    )
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
