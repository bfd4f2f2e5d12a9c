"""FBKD (Zhang, Ma 2021) for any model with a backbone: features where either looks, and how places relate."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    fbkd=dict(
        type='kddense.FBKDObjective',
        levels=[0, 1, 2, 3],
        weight=4,  # the codes add up the four levels; here they are averaged
    )
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
