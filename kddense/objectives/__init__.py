"""What is compared with what: each objective picks from the student and the teacher, connects, and calls losses."""

from .base import Objective
from .chen2017 import ChenRoIObjective, ChenRPNObjective, HintObjective
from .feature import FeatureObjective

__all__ = ['ChenRPNObjective', 'ChenRoIObjective', 'FeatureObjective', 'HintObjective', 'Objective']
