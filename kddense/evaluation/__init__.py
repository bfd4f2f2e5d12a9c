"""Metrics."""

from .depth_metric import DepthMetric
from .image_iou import ImageIoUMetric

__all__ = ['DepthMetric', 'ImageIoUMetric']
