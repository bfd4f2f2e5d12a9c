"""What is compared with what: each objective picks from the student and the teacher, connects, and calls losses."""

from .ail import AttentiveBoxObjective, AttentiveDepthHintObjective, AttentiveDepthObjective, MeasuresTeacher
from .base import Objective
from .chen2017 import ChenDenseObjective, ChenRoIObjective, ChenRPNObjective, HintObjective
from .dense import DenseHintonObjective
from .feature import FeatureObjective
from .ld import LDObjective
from .pixels import CWDObjective, PixelObjective
from .skd import HolisticObjective, PairWiseObjective, PixelWiseObjective

__all__ = [
    'AttentiveBoxObjective',
    'AttentiveDepthHintObjective',
    'AttentiveDepthObjective',
    'CWDObjective',
    'ChenDenseObjective',
    'ChenRPNObjective',
    'ChenRoIObjective',
    'DenseHintonObjective',
    'FeatureObjective',
    'HintObjective',
    'HolisticObjective',
    'LDObjective',
    'MeasuresTeacher',
    'Objective',
    'PairWiseObjective',
    'PixelObjective',
    'PixelWiseObjective',
]
