"""Hooks of mmengine."""

from .random_state import RandomStateHook
from .unlabelled import UnlabelledImagesHook
from .visualization import DistillVisualizationHook

__all__ = ['DistillVisualizationHook', 'RandomStateHook', 'UnlabelledImagesHook']
