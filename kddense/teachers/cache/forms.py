"""In which form the values of an answer are kept: as they are, in fewer bits, or for the likeliest classes alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

FORMS = ('fp32', 'bf16', 'int8', 'top_k')
DTYPES = {str(dtype).removeprefix('torch.'): dtype for dtype in (torch.float32, torch.bfloat16, torch.float16)}


@dataclass(frozen=True)
class Form:
    """How to keep values.

    Attributes:
        name: One of :data:`FORMS`.
        classes: Of ``'top_k'``, how many classes are kept as they are.
        low: Whether the teacher computes in low precision: then float32 values that are none lose nothing in bfloat16.
    """

    name: str = 'fp32'
    classes: int = 5
    low: bool = False

    @property
    def is_exact(self) -> bool:
        """Whether what is read is what was kept, bit for bit."""
        return self.name == 'fp32'

    def pack(self, values: Tensor, sigmoid: bool | None = None) -> tuple[dict[str, Any], list[list[Tensor]]]:
        """Return how values are kept, as plain data, and for each image the tensors to keep.

        Args:
            values: Of a batch, shape ``(N, …)``.
            sigmoid: Of class logits ``(N, K, …)``, whether each class is decided on its own; ``None`` if they are none.
        """
        if not values.is_floating_point():
            return _pack_plain(values, values.dtype)
        spec, rows = self._packed(values, sigmoid)
        # Where values lie in memory moves last bits of sums, and differs with the number of images.
        return (spec if self.is_exact else {**spec, 'images': 0, 'stride': []}), rows

    def _packed(self, values: Tensor, sigmoid: bool | None) -> tuple[dict[str, Any], list[list[Tensor]]]:
        if self.name == 'int8' and bool(values.isfinite().all()):
            return _pack_int8(values)
        if self.name == 'top_k' and sigmoid is not None and values.shape[1] > self.classes:
            return _pack_top(values, self.classes, sigmoid)
        if self.name == 'bf16' or (self.low and torch.equal(values, values.bfloat16().to(values.dtype))):
            return _pack_plain(values, torch.bfloat16)
        return _pack_plain(values, values.dtype)


def unpack(spec: Mapping[str, Any], images: Sequence[Sequence[Tensor]], pin: bool) -> Tensor:
    """Return values of a batch from what is kept of its images; the inverse of :meth:`Form.pack`.

    Args:
        spec: How they are kept.
        images: The tensors of each image.
        pin: Put them where a GPU copies from without waiting.
    """
    row, dtype = spec['shape'], getattr(torch, spec['dtype'])
    stride = spec['stride'] if len(images) == spec['images'] else _contiguous(len(images), row)
    values = torch.empty_strided((len(images), *row), stride, dtype=dtype, pin_memory=pin)
    fill = UNPACK[spec['form']]
    for place, tensors in zip(values, images, strict=True):
        fill(place, tensors, spec)
    return values


def _pack_plain(values: Tensor, kept: torch.dtype) -> tuple[dict[str, Any], list[list[Tensor]]]:
    order = _order(values)
    rows = [[row.permute(order).to(kept, copy=True, memory_format=torch.contiguous_format)] for row in values]
    return _spec('plain', values, order=order), rows


def _unpack_plain(place: Tensor, tensors: Sequence[Tensor], spec: Mapping[str, Any]) -> None:
    place.permute(spec['order']).copy_(tensors[0])


def _pack_int8(values: Tensor) -> tuple[dict[str, Any], list[list[Tensor]]]:
    """Keep 255 steps between the extremes of each channel of each image."""
    over = list(range(2, values.dim())) if values.dim() > 2 else list(range(1, values.dim()))
    largest = values.abs().float().amax(dim=over, keepdim=True) if over else values.abs().float()
    scales = torch.where(largest > 0, largest / 127, torch.ones_like(largest))
    steps = (values.float() / scales).round().to(torch.int8)
    rows = [[step.contiguous(), scale.clone()] for step, scale in zip(steps, scales, strict=True)]
    return _spec('int8', values), rows


def _unpack_int8(place: Tensor, tensors: Sequence[Tensor], spec: Mapping[str, Any]) -> None:
    steps, scale = tensors
    place.copy_(steps.float() * scale)


def _pack_top(values: Tensor, classes: int, sigmoid: bool) -> tuple[dict[str, Any], list[list[Tensor]]]:
    """Keep the largest logits; all others become one, such that the sum of their probabilities stays."""
    largest, index = values.topk(classes, dim=1)
    left = torch.ones_like(values, dtype=torch.bool).scatter(1, index, False)
    others = values.shape[1] - classes
    if sigmoid:
        mean = (values.sigmoid() * left).sum(dim=1, keepdim=True) / others
        rest = mean.clamp(1e-30, 1 - 1e-7).logit()
    else:
        rest = values.masked_fill(~left, float('-inf')).logsumexp(dim=1, keepdim=True) - torch.tensor(others).log()
    small = torch.uint8 if values.shape[1] <= 256 else torch.int32
    kept = zip(largest, index.to(small), rest, strict=True)
    return _spec('top', values), [[part.contiguous().clone() for part in row] for row in kept]


def _unpack_top(place: Tensor, tensors: Sequence[Tensor], spec: Mapping[str, Any]) -> None:
    largest, index, rest = tensors
    place.copy_(rest.expand_as(place).scatter(0, index.long(), largest))


UNPACK: dict[str, Callable[[Tensor, Sequence[Tensor], Mapping[str, Any]], None]] = {
    'plain': _unpack_plain,
    'int8': _unpack_int8,
    'top': _unpack_top,
}


def _spec(form: str, values: Tensor, **more: Any) -> dict[str, Any]:
    """Return what all forms say: sums over values depend on where these lie in memory, so that is kept too."""
    stride = list(values.stride()) if 0 not in values.stride() else _contiguous(*_sizes(values))
    return dict(
        form=form,
        dtype=str(values.dtype).removeprefix('torch.'),
        images=len(values),
        shape=list(values.shape[1:]),
        stride=stride,
        **more,
    )


def _sizes(values: Tensor) -> tuple[int, Sequence[int]]:
    return len(values), values.shape[1:]


def _order(values: Tensor) -> list[int]:
    """Return the dimensions of one image's values as they lie in memory, the outermost first."""
    return sorted(range(values.dim() - 1), key=lambda dim: -values.stride(dim + 1))


def _contiguous(images: int, row: Sequence[int]) -> list[int]:
    strides = [1]
    for length in reversed(row):
        strides.insert(0, strides[0] * max(length, 1))
    return strides[: len(row) + 1]
