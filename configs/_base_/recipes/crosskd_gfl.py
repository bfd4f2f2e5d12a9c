"""CrossKD (Wang et al. 2024) for GFL, with the authors' weight of distributions."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(cross=dict(type='kddense.CrossKDObjective', boxes=4.0))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
