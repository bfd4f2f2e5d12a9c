"""Hooks of mmengine."""

from .random_state import RandomStateHook
from .unlabelled import UnlabelledImagesHook

__all__ = ['RandomStateHook', 'UnlabelledImagesHook']
