"""Knowledge distillation plug-ins for OpenMMLab."""

from kddense import compat

# Before anything imports mmcv.ops, which the rest of OpenMMLab does.
compat.enable()

from kddense import losses  # noqa: E402
from kddense.connectors import ConvConnector, LinearConnector  # noqa: E402
from kddense.datasets import ShrinkForStudent  # noqa: E402
from kddense.distiller import Distiller  # noqa: E402
from kddense.hooks import RandomStateHook  # noqa: E402
from kddense.models import VGG  # noqa: E402
from kddense.objectives import (  # noqa: E402
    ChenRoIObjective,
    ChenRPNObjective,
    FeatureObjective,
    HintObjective,
    Objective,
)
from kddense.teacher import Teacher  # noqa: E402

__version__ = '0.1.0'

__all__ = [
    'VGG',
    'ChenRPNObjective',
    'ChenRoIObjective',
    'ConvConnector',
    'Distiller',
    'FeatureObjective',
    'HintObjective',
    'LinearConnector',
    'Objective',
    'RandomStateHook',
    'ShrinkForStudent',
    'Teacher',
    'losses',
]
