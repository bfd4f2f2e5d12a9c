"""Measurements: whether a method helps, paired by seed, with intervals, and at the same time too."""

from .main import main

__all__ = ['main']
