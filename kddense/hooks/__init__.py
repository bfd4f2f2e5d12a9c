"""Hooks of mmengine."""

from .channels_last import ChannelsLastHook
from .random_state import RandomStateHook
from .unlabelled import UnlabelledImagesHook
from .visualization import DistillVisualizationHook

__all__ = ['ChannelsLastHook', 'DistillVisualizationHook', 'RandomStateHook', 'UnlabelledImagesHook']
