"""A student as one function of normalised images, which ONNX can hold: what it gives, and of which layers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.utils import to_2tuple
from torch import Tensor, nn
from torch.nn import functional

from kddense.exchange import ImageFormat
from kddense.views import is_a

from .detectors import detector_network
from .layers import check_layers

OUTPUTS = ('results', 'raw', 'features')


class Network(nn.Module):
    """A student as a function of normalised images, and what its outputs are called.

    Args:
        student: A segmentor, a depth estimator or a detector, in eval mode.

    Attributes:
        names: Of what it returns.
        kept: Of what the file is for; the rest is compared with PyTorch only.
    """

    names: tuple[str, ...]
    kept: tuple[str, ...]

    def __init__(self, student: Any) -> None:
        super().__init__()
        self.student = student

    @property
    def takes_sizes(self) -> bool:
        """Whether it may be told how large the images are without their padding."""
        return False

    def axes(self, name: str, dynamic: Mapping[int, str]) -> dict[int, str]:
        """Return the names of the axes of an output that vary.

        Args:
            name: Of the output.
            dynamic: The axes of the images that vary.
        """
        return dict(dynamic)


class FeatureNetwork(Network):
    """The maps of the neck: ``level_0``, ``level_1``, …, at the strides of the student."""

    def __init__(self, student: Any, size: tuple[int, int]) -> None:
        super().__init__(student)
        with torch.no_grad():
            levels = self(torch.zeros(1, channels_of(student), *size))
        self.names = self.kept = tuple(f'level_{index}' for index in range(len(levels)))

    def axes(self, name: str, dynamic: Mapping[int, str]) -> dict[int, str]:
        """Name heights and widths after the level."""
        return {axis: what if axis == 0 else f'{name}_{what}' for axis, what in dynamic.items()}

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.student.extract_feat(images))


class DepthNetwork(Network):
    """``depth``, in metres, at the size of the images."""

    names = kept = ('depth',)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (_at_full_size(self.student, images),)


class SegmentorNetwork(Network):
    """``classes``, the class of each pixel, at the size of the images; or ``logits``, one map for each class."""

    def __init__(self, student: Any, raw: bool) -> None:
        super().__init__(student)
        self.names = ('logits',) if raw else ('logits', 'classes')
        self.kept = self.names[-1:]

    def axes(self, name: str, dynamic: Mapping[int, str]) -> dict[int, str]:
        """Leave out the axis of the logits in a class map."""
        return {axis - (name == 'classes' and axis > 0): what for axis, what in dynamic.items()}

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        logits = _at_full_size(self.student, images)
        return (logits,) if len(self.names) == 1 else (logits, self._classes(logits))

    def _classes(self, logits: Tensor) -> Tensor:
        heads: Any = self.student.decode_head
        head: Any = heads[-1] if isinstance(heads, nn.ModuleList) else heads
        if head.out_channels > 1:
            return logits.argmax(dim=1)
        return (logits.sigmoid() > head.threshold)[:, 0].long()


class DetectionNetwork(Network):
    """``boxes``, ``scores`` and ``labels`` after suppression; or ``boxes`` and ``scores`` of all places before it."""

    def __init__(self, student: Any, raw: bool) -> None:
        super().__init__(student)
        self.detector = detector_network(student, suppressed=not raw)
        everything = ('boxes', 'scores') if raw else ('all_boxes', 'all_scores')
        self.kept = everything if raw else ('boxes', 'scores', 'labels')
        self.names = everything if raw else (*everything, *self.kept)

    @property
    def takes_sizes(self) -> bool:
        """Boxes are cut at the borders of the images."""
        return True

    def axes(self, name: str, dynamic: Mapping[int, str]) -> dict[int, str]:
        """Name the axis of the boxes, whose number follows the size of the images."""
        boxes = 'candidates' if name in self.names[:2] else 'detections'
        return {axis if axis < 2 else 1: what if axis == 0 else boxes for axis, what in dynamic.items()}

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
        return self.detector(images, sizes)


def network_of(student: Any, size: tuple[int, int], outputs: str = 'results') -> Network:
    """Return a student as a function of normalised images.

    Args:
        student: In eval mode.
        size: Height and width of images that it takes.
        outputs: One of :data:`OUTPUTS`: results, what they are made of (logits, all boxes), or the maps of the neck.

    Raises:
        RuntimeError: If it is a model of another kind, or has a layer or is of a family that cannot be exported.
    """
    if not hasattr(student, 'encode_decode') and not hasattr(student, 'extract_feat'):
        raise RuntimeError(f'{type(student).__name__} is neither a segmentor, a depth estimator nor a detector')
    check_layers(student)
    if outputs == 'features':
        return FeatureNetwork(student, size).eval()
    if is_a(student, 'DepthEstimator'):
        return DepthNetwork(student).eval()
    raw = outputs == 'raw'
    kind = SegmentorNetwork if hasattr(student, 'encode_decode') else DetectionNetwork
    return kind(student, raw).eval()


def channels_of(student: Any) -> int:
    """Return the number of channels of a student's images."""
    return ImageFormat.of(student.data_preprocessor).channels or 3


def _at_full_size(student: Any, images: Tensor) -> Tensor:
    size = images.shape[-2:]
    meta = dict(img_shape=size, ori_shape=size, pad_shape=size)
    return student.encode_decode(images, [meta] * len(images))


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
    if type(part) is nn.MultiheadAttention and part.in_proj_weight is not None and part.bias_k is None:
        return _Attention(part)
    return part


class _Attention(nn.Module):
    """``nn.MultiheadAttention`` without masks: PyTorch's own turns the number of keys into a constant."""

    def __init__(self, layer: nn.MultiheadAttention) -> None:
        super().__init__()
        self.layer = layer

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        attn_mask: Any = None,
        key_padding_mask: Any = None,
        **_: Any,
    ) -> tuple[Tensor, None]:
        if attn_mask is not None or key_padding_mask is not None:
            raise RuntimeError('attention with a mask cannot be exported')
        layer = self.layer
        biases = [None] * 3 if layer.in_proj_bias is None else layer.in_proj_bias.chunk(3)
        inputs = zip((query, key, value), layer.in_proj_weight.chunk(3), biases, strict=True)
        own = [
            functional.linear(*one) if layer.batch_first else functional.linear(*one).transpose(0, 1) for one in inputs
        ]
        queries, keys, values = (torch.stack(one.split(layer.head_dim, dim=-1), dim=1) for one in own)
        weights = (queries * layer.head_dim**-0.5 @ keys.transpose(-2, -1)).softmax(dim=-1)
        joined = torch.cat((weights @ values).unbind(1), dim=-1)
        return layer.out_proj(joined if layer.batch_first else joined.transpose(0, 1)), None


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
