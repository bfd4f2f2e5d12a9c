"""Routes of checkpoints (RCO): a student follows the training of its teacher."""

from .hook import RouteHook

__all__ = ['RouteHook']
