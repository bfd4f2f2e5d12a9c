"""CanKD (Sun, Ohyama 2026) for any model with a backbone: the student's places look at all places of the teacher's map."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    cankd=dict(
        type='kddense.CanKDObjective',
        levels=[0, 1, 2, 3],
        weight=40,  # 10 for each of four levels, which the authors add up; here they are averaged
    )
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
