"""MGD (Yang et al. 2022) for segmentors of mmseg: the backbone's last stage, and CWD of the logits."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    mgd=dict(type='kddense.MGDObjective', tap='backbone', levels=[-1], masked=0.75, weight=2e-5),
    cwd=dict(type='kddense.CWDObjective', temperature=4.0, weight=3.0),
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
