"""Reading runs, and pictures of what models predict and of what was distilled."""

from .knowledge import affinities, feature_energy
from .pictures import Boxes, draw_boxes, draw_classes, draw_depth, draw_heat, side_by_side
from .runs import Run, read_run

__all__ = [
    'Boxes',
    'Run',
    'affinities',
    'draw_boxes',
    'draw_classes',
    'draw_depth',
    'draw_heat',
    'feature_energy',
    'read_run',
    'side_by_side',
]
