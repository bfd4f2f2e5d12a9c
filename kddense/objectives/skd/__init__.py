"""Liu et al., Structured Knowledge Distillation for Dense Prediction, TPAMI 2020 (CVPR 2019): three objectives.

For segmentors, for depth estimators, and with ``on='bbox_head'`` for the dense heads of one-stage detectors, which the
paper tells of with FCOS. It does not say how it treats the levels of a pyramid there: here each is compared on its own, and
the losses are averaged over the levels.

``L = L_task + λ1 (L_pi + L_pa) + λ2 L_ho``, with λ1 = 10 and λ2 = 0.1. Each takes ``mode='code'`` for what the authors'
released code does instead of the paper.
"""

from .holistic import HolisticObjective
from .pair_wise import PairWiseObjective
from .pixel_wise import PixelWiseObjective

__all__ = ['HolisticObjective', 'PairWiseObjective', 'PixelWiseObjective']
