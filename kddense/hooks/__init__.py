"""Hooks of mmengine."""

from .random_state import RandomStateHook

__all__ = ['RandomStateHook']
