"""Knowledge distillation plug-ins for OpenMMLab."""

from kddense_start import needs

needs.check()

from kddense import compat  # noqa: E402

# Before anything imports mmcv.ops, which the rest of OpenMMLab does.
compat.enable()

from kddense import losses  # noqa: E402
from kddense.connectors import ConvConnector, LinearConnector, ReviewConnector  # noqa: E402
from kddense.datasets import (  # noqa: E402
    InfiniteVariantSampler,
    LoadTeacherImage,
    MoveTogether,
    ShrinkForStudent,
    VariantDataset,
    VariantSampler,
)
from kddense.distiller import Distiller  # noqa: E402
from kddense.models import VGG, ClassQueue, DepthHead, Discriminator, EfficientNetLite, MemoryBank, NonLocalBlock  # noqa: E402
from kddense.objectives import (  # noqa: E402
    ABObjective,
    ATObjective,
    AttentiveBoxObjective,
    AttentiveDepthHintObjective,
    AttentiveDepthObjective,
    CanKDObjective,
    ChenDenseObjective,
    ChenRoIObjective,
    ChenRPNObjective,
    CIRKDObjective,
    ClassObjective,
    CRDObjective,
    CWDObjective,
    DenseHintonObjective,
    DISTObjective,
    DKDObjective,
    FBKDObjective,
    FeatureObjective,
    FSPObjective,
    GradientATObjective,
    GradientSymmetryObjective,
    HeadObjective,
    HintObjective,
    HolisticObjective,
    IFVDObjective,
    LDObjective,
    MapObjective,
    Objective,
    OFDObjective,
    PairWiseObjective,
    PixelWiseObjective,
    PlaceObjective,
    RelationObjective,
)
from kddense.report.hook import DistillVisualizationHook  # noqa: E402
from kddense.teachers import CachedTeacher, EnsembleTeacher, FrozenTeacher, ModuleTeacher, Teacher  # noqa: E402
from kddense.training import (  # noqa: E402
    ChannelsLastHook,
    JointOptimWrapper,
    JointOptimWrapperConstructor,
    RandomStateHook,
    RestHook,
    StagesHook,
    UnlabelledImagesHook,
    WholeCheckpointHook,
)

__version__ = '0.1.0'

__all__ = [
    'VGG',
    'ABObjective',
    'ATObjective',
    'AttentiveBoxObjective',
    'AttentiveDepthHintObjective',
    'AttentiveDepthObjective',
    'CIRKDObjective',
    'CRDObjective',
    'CWDObjective',
    'CachedTeacher',
    'CanKDObjective',
    'ChannelsLastHook',
    'ChenDenseObjective',
    'ChenRPNObjective',
    'ChenRoIObjective',
    'ClassObjective',
    'ClassQueue',
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
    'FBKDObjective',
    'FSPObjective',
    'FeatureObjective',
    'FrozenTeacher',
    'GradientATObjective',
    'GradientSymmetryObjective',
    'HeadObjective',
    'HintObjective',
    'HolisticObjective',
    'IFVDObjective',
    'InfiniteVariantSampler',
    'JointOptimWrapper',
    'JointOptimWrapperConstructor',
    'LDObjective',
    'LinearConnector',
    'LoadTeacherImage',
    'MapObjective',
    'MemoryBank',
    'ModuleTeacher',
    'MoveTogether',
    'NonLocalBlock',
    'OFDObjective',
    'Objective',
    'PairWiseObjective',
    'PixelWiseObjective',
    'PlaceObjective',
    'RandomStateHook',
    'RelationObjective',
    'RestHook',
    'ReviewConnector',
    'ShrinkForStudent',
    'StagesHook',
    'Teacher',
    'UnlabelledImagesHook',
    'VariantDataset',
    'VariantSampler',
    'WholeCheckpointHook',
    'losses',
]
