"""Models that mmdet and mmseg lack."""

from kddense.models.depth_head import DepthHead
from kddense.models.discriminator import Discriminator
from kddense.models.efficientnet_lite import EfficientNetLite
from kddense.models.memory_bank import MemoryBank
from kddense.models.vgg import VGG

__all__ = ['VGG', 'DepthHead', 'Discriminator', 'EfficientNetLite', 'MemoryBank']
