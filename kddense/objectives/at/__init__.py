"""Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017: attention of activations and of gradients."""

from .activation import ATObjective
from .gradient import GradientATObjective
from .symmetry import GradientSymmetryObjective

__all__ = ['ATObjective', 'GradientATObjective', 'GradientSymmetryObjective']
