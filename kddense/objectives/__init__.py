"""What is compared with what: each objective picks from the student and the teacher, connects, and calls losses."""

from .base import Objective
from .chen2017 import ChenRoIObjective, ChenRPNObjective, HintObjective
from .feature import FeatureObjective
from .ld import LDObjective
from .pixels import CWDObjective, PixelObjective
from .skd import HolisticObjective, PairWiseObjective, PixelWiseObjective

__all__ = [
    'CWDObjective',
    'ChenRPNObjective',
    'ChenRoIObjective',
    'FeatureObjective',
    'HintObjective',
    'HolisticObjective',
    'LDObjective',
    'Objective',
    'PairWiseObjective',
    'PixelObjective',
    'PixelWiseObjective',
]
