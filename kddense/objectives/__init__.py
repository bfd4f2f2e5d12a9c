"""What is compared with what: each objective picks from the student and the teacher, connects, and calls losses."""

from .ail import AttentiveBoxObjective, AttentiveDepthHintObjective, AttentiveDepthObjective, MeasuresTeacher
from .base import Objective
from .chen2017 import ChenDenseObjective, ChenRoIObjective, ChenRPNObjective, HintObjective
from .cwd import CWDObjective
from .feature import FeatureObjective
from .heads import HeadObjective
from .hinton import DenseHintonObjective
from .ld import LDObjective
from .maps import MapObjective
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
    'HeadObjective',
    'HintObjective',
    'HolisticObjective',
    'LDObjective',
    'MapObjective',
    'MeasuresTeacher',
    'Objective',
    'PairWiseObjective',
    'PixelWiseObjective',
]
