"""A student as one function of normalised images, which ONNX can hold."""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.utils import to_2tuple
from torch import Tensor, nn

from kddense.views import is_a


class Network(nn.Module):
    """The student as a function of normalised images: scores or metres of every pixel, or a pyramid of features.

    Args:
        student: A segmentor, a depth estimator or a detector.

    Raises:
        RuntimeError: If it is none of these.
    """

    def __init__(self, student: Any) -> None:
        super().__init__()
        if not hasattr(student, 'encode_decode') and not hasattr(student, 'extract_feat'):
            raise RuntimeError(f'{type(student).__name__} is neither a segmentor, a depth estimator nor a detector')
        self.student = student

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if not hasattr(self.student, 'encode_decode'):
            return tuple(self.student.extract_feat(images))
        size = images.shape[-2:]
        meta = dict(img_shape=size, ori_shape=size, pad_shape=size)
        return (self.student.encode_decode(images, [meta] * len(images)),)

    @torch.no_grad()
    def output_names(self, size: tuple[int, int]) -> tuple[str, ...]:
        """Return what its outputs are called, for images of a height and width."""
        if hasattr(self.student, 'encode_decode'):
            return ('depth',) if is_a(self.student, 'DepthEstimator') else ('logits',)
        return tuple(f'level_{index}' for index in range(len(self(torch.zeros(1, 3, *size)))))


def exportable(student: nn.Module) -> nn.Module:
    """Return a copy that gives the same values, of layers that ONNX can hold."""
    student = revert_sync_batchnorm(copy.deepcopy(student))
    for module in list(student.modules()):
        for name, part in module.named_children():
            setattr(module, name, _exportable_part(part))
    return student


def _exportable_part(part: Any) -> nn.Module:
    """Return what gives the same values as a layer, but does not turn the size of an image into a constant."""
    if isinstance(part, nn.AdaptiveAvgPool2d):
        height, width = to_2tuple(part.output_size)
        return part if None in (height, width) or (height, width) == (1, 1) else _AdaptivePooling(height, width)
    if is_a(part, 'Upsample') and not isinstance(part, nn.Upsample) and not part.size:  # mmseg's
        return nn.Upsample(scale_factor=part.scale_factor, mode=part.mode, align_corners=part.align_corners)
    return part


class _AdaptivePooling(nn.Module):
    """``nn.AdaptiveAvgPool2d`` out of operators that ONNX has: each cell's mean is a row of a matrix."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height = height
        self.width = width

    def forward(self, maps: Tensor) -> Tensor:
        rows = self._means(self.height, maps.shape[-2], maps)
        columns = self._means(self.width, maps.shape[-1], maps)
        return rows @ maps @ columns.transpose(0, 1)

    @staticmethod
    def _means(cells: int, length: int, like: Tensor) -> Tensor:
        cell, place = torch.arange(cells)[:, None], torch.arange(length)
        first, end = cell * length // cells, ((cell + 1) * length + cells - 1) // cells
        inside = ((place >= first) & (place < end)).to(like.dtype)
        return inside / inside.sum(dim=1, keepdim=True)
