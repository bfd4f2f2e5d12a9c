"""Models that mmdet and mmseg lack."""

from kddense.models.class_queue import ClassQueue
from kddense.models.depth_head import DepthHead
from kddense.models.discriminator import Discriminator
from kddense.models.efficientnet_lite import EfficientNetLite
from kddense.models.ensemble import EnsembleModel
from kddense.models.memory_bank import MemoryBank
from kddense.models.non_local import NonLocalBlock
from kddense.models.vgg import VGG

__all__ = [
    'VGG',
    'ClassQueue',
    'DepthHead',
    'Discriminator',
    'EfficientNetLite',
    'EnsembleModel',
    'MemoryBank',
    'NonLocalBlock',
]
