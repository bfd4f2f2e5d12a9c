"""CrossKD (Wang et al. 2024) for RetinaNet and ATSS: the student's features through the rest of the teacher's head."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(cross=dict(type='kddense.CrossKDObjective'))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
