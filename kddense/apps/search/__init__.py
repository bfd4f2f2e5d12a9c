"""Searches: the student that learns best from a given teacher."""

from .command import main

__all__ = ['main']
