"""Data transforms."""

from .transforms import TEACHER_IMAGE, ShrinkForStudent

__all__ = ['TEACHER_IMAGE', 'ShrinkForStudent']
