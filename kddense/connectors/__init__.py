"""Connectors: adaptation layers that bring a student's feature to the teacher's width and size.

A hint compares features of different networks, and so needs a learned map between them (FitNets' regressor, Chen et
al.'s adaptation layer: a 1x1 convolution between maps, a linear layer between vectors). Nobody types channel counts:
:func:`build_connector` is told the shapes that a tiny batch showed.
"""

from .build import build_connector, build_fusing_connector, fuses
from .layers import ConvConnector, LinearConnector
from .review import ReviewConnector
from .sizes import match_rank, match_size, scaled_size, tokens_to_map

__all__ = [
    'ConvConnector',
    'LinearConnector',
    'ReviewConnector',
    'build_connector',
    'build_fusing_connector',
    'fuses',
    'match_rank',
    'match_size',
    'scaled_size',
    'tokens_to_map',
]
