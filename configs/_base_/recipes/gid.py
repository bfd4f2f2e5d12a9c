"""GID (Dai et al. 2021) for one-stage detectors: features, relations and responses of where both networks differ most."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(gid=dict(type='kddense.GIDObjective'))
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
