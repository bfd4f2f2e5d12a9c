"""Knowledge distillation plug-ins for OpenMMLab."""

from kddense import compat

# Before anything imports mmcv.ops, which the rest of OpenMMLab does.
compat.enable()

from kddense import losses  # noqa: E402
from kddense.connectors import ConvConnector, LinearConnector  # noqa: E402
from kddense.datasets import LoadTeacherImage, MoveTogether, ShrinkForStudent  # noqa: E402
from kddense.distiller import Distiller  # noqa: E402
from kddense.models import VGG, DepthHead, Discriminator, EfficientNetLite, MemoryBank  # noqa: E402
from kddense.objectives import (  # noqa: E402
    ABObjective,
    ATObjective,
    AttentiveBoxObjective,
    AttentiveDepthHintObjective,
    AttentiveDepthObjective,
    ChenDenseObjective,
    ChenRoIObjective,
    ChenRPNObjective,
    ClassObjective,
    CWDObjective,
    DenseHintonObjective,
    DISTObjective,
    DKDObjective,
    FeatureObjective,
    FSPObjective,
    GradientATObjective,
    GradientSymmetryObjective,
    HeadObjective,
    HintObjective,
    HolisticObjective,
    LDObjective,
    MapObjective,
    Objective,
    OFDObjective,
    PairWiseObjective,
    PixelWiseObjective,
    RelationObjective,
)
from kddense.report.hook import DistillVisualizationHook  # noqa: E402
from kddense.teachers import EnsembleTeacher, FrozenTeacher, ModuleTeacher, Teacher  # noqa: E402
from kddense.training import (  # noqa: E402
    ChannelsLastHook,
    JointOptimWrapper,
    JointOptimWrapperConstructor,
    RandomStateHook,
    RestHook,
    UnlabelledImagesHook,
)

__version__ = '0.1.0'

__all__ = [
    'VGG',
    'ABObjective',
    'ATObjective',
    'AttentiveBoxObjective',
    'AttentiveDepthHintObjective',
    'AttentiveDepthObjective',
    'CWDObjective',
    'ChannelsLastHook',
    'ChenDenseObjective',
    'ChenRPNObjective',
    'ChenRoIObjective',
    'ClassObjective',
    'ConvConnector',
    'DISTObjective',
    'DKDObjective',
    'DenseHintonObjective',
    'DepthHead',
    'Discriminator',
    'DistillVisualizationHook',
    'Distiller',
    'EfficientNetLite',
    'EnsembleTeacher',
    'FSPObjective',
    'FeatureObjective',
    'FrozenTeacher',
    'GradientATObjective',
    'GradientSymmetryObjective',
    'HeadObjective',
    'HintObjective',
    'HolisticObjective',
    'JointOptimWrapper',
    'JointOptimWrapperConstructor',
    'LDObjective',
    'LinearConnector',
    'LoadTeacherImage',
    'MapObjective',
    'MemoryBank',
    'ModuleTeacher',
    'MoveTogether',
    'OFDObjective',
    'Objective',
    'PairWiseObjective',
    'PixelWiseObjective',
    'RandomStateHook',
    'RelationObjective',
    'RestHook',
    'ShrinkForStudent',
    'Teacher',
    'UnlabelledImagesHook',
    'losses',
]
