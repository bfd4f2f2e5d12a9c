"""Programmes: several runs of which some learn from others."""

from .command import main

__all__ = ['main']
