"""Wang et al., CrossKD: Cross-Head Knowledge Distillation for Object Detection, CVPR 2024."""

from .objective import CrossKDObjective

__all__ = ['CrossKDObjective']
