"""Data transforms."""

from .transforms import ShrinkForStudent

__all__ = ['ShrinkForStudent']
