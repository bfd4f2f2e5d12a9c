"""Methods that compare values before a ReLU: OFD and AB."""

from .ab import ABObjective
from .ofd import OFDObjective

__all__ = ['ABObjective', 'OFDObjective']
