"""Pictures of what models predict and of what was distilled."""

from .knowledge import affinities, feature_energy
from .pictures import Boxes, draw_boxes, draw_classes, draw_depth, draw_heat, side_by_side

__all__ = [
    'Boxes',
    'affinities',
    'draw_boxes',
    'draw_classes',
    'draw_depth',
    'draw_heat',
    'feature_energy',
    'side_by_side',
]
