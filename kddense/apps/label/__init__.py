"""Pseudo-labels: a trained model annotates images that nobody labelled."""

from .command import main

__all__ = ['main']
