"""Knowledge distillation plug-ins for OpenMMLab."""

from kddense import compat

# Before anything imports mmcv.ops, which the rest of OpenMMLab does.
compat.enable()

from kddense import losses  # noqa: E402
from kddense.connectors import ConvConnector, LinearConnector  # noqa: E402
from kddense.datasets import ShrinkForStudent  # noqa: E402
from kddense.distiller import Distiller  # noqa: E402
from kddense.hooks import (  # noqa: E402
    ChannelsLastHook,
    DistillVisualizationHook,
    RandomStateHook,
    UnlabelledImagesHook,
)
from kddense.models import VGG, DepthHead, Discriminator, EfficientNetLite  # noqa: E402
from kddense.objectives import (  # noqa: E402
    AttentiveBoxObjective,
    AttentiveDepthHintObjective,
    AttentiveDepthObjective,
    ChenDenseObjective,
    ChenRoIObjective,
    ChenRPNObjective,
    CWDObjective,
    DenseHintonObjective,
    FeatureObjective,
    HintObjective,
    HolisticObjective,
    LDObjective,
    Objective,
    PairWiseObjective,
    PixelObjective,
    PixelWiseObjective,
)
from kddense.optim import JointOptimWrapper, JointOptimWrapperConstructor  # noqa: E402
from kddense.teacher import Teacher  # noqa: E402

__version__ = '0.1.0'

__all__ = [
    'VGG',
    'AttentiveBoxObjective',
    'AttentiveDepthHintObjective',
    'AttentiveDepthObjective',
    'CWDObjective',
    'ChannelsLastHook',
    'ChenDenseObjective',
    'ChenRPNObjective',
    'ChenRoIObjective',
    'ConvConnector',
    'DenseHintonObjective',
    'DepthHead',
    'Discriminator',
    'DistillVisualizationHook',
    'Distiller',
    'EfficientNetLite',
    'FeatureObjective',
    'HintObjective',
    'HolisticObjective',
    'JointOptimWrapper',
    'JointOptimWrapperConstructor',
    'LDObjective',
    'LinearConnector',
    'Objective',
    'PairWiseObjective',
    'PixelObjective',
    'PixelWiseObjective',
    'RandomStateHook',
    'ShrinkForStudent',
    'Teacher',
    'UnlabelledImagesHook',
    'losses',
]
