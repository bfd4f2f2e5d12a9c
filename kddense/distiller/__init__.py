"""The composite model: a student that trains as ever, teachers beside it, objectives between them."""

from .model import Distiller

__all__ = ['Distiller']
