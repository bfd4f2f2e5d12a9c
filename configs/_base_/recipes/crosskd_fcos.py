"""CrossKD (Wang et al. 2024) for FCOS, with the authors' weights and overlap; without centerness, as they have it."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(cross=dict(type='kddense.CrossKDObjective', classes=0.4, boxes=0.75, centerness=0.0, overlap='iou'))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
