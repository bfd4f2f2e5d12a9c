"""Models that mmdet and mmseg lack."""

from kddense.models.vgg import VGG

__all__ = ['VGG']
