"""FGD (Yang et al. 2022) for one-stage detectors without anchors: the authors' weights for FCOS."""

_base_ = './fgd_one_stage.py'
objectives = dict(fgd=dict(foreground=1.6e-3, background=8e-4, attention=8e-4, relation=8e-6, temperature=0.8))
distiller = dict(objectives=objectives)
