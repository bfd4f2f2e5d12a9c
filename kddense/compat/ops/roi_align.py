"""RoIAlign (He et al., Mask R-CNN, ICCV 2017): ``roi_align_forward`` and ``roi_align_backward``.

The average mode is torchvision's. The maximum mode, which torchvision lacks, is plain PyTorch, one RoI at a time.
"""

from __future__ import annotations

import math

import torch
import torchvision  # noqa: F401  registers torch.ops.torchvision
from torch import Tensor

from ._common import compute_dtype

MAX = 0
EMPTY = -10000.0  # what compiled mmcv answers for the maximum over no sample


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Pool each RoI to a grid of bins, from bilinear samples inside every bin.

    Args:
        input: Feature map, shape ``(N, C, H, W)``.
        rois: Image index and corners in image pixels, shape ``(R, 5)``.
        output: Filled, shape ``(R, C, aligned_height, aligned_width)``.
        argmax_y: Filled in the maximum mode with where the maximum was sampled, shape of ``output``; -1 for nowhere.
        argmax_x: As ``argmax_y``.
        aligned_height: Rows of bins.
        aligned_width: Columns of bins.
        spatial_scale: Feature pixels per image pixel.
        sampling_ratio: Samples per bin and axis; 0 for as many as the bin is wide.
        pool_mode: 0 for the maximum of the samples, 1 for their mean.
        aligned: Whether pixel centres lie at half coordinates; if not, RoIs are at least one pixel wide.
    """
    if not len(rois):
        return
    dtype = compute_dtype(input)
    bins = (aligned_height, aligned_width)
    if pool_mode != MAX:
        pooled = torch.ops.torchvision.roi_align(
            input.to(dtype), rois.to(dtype), spatial_scale, *bins, sampling_ratio, aligned
        )
        output.copy_(pooled)
        return
    for index, (image, *corners) in enumerate(rois.to(dtype).tolist()):
        x1, y1, x2, y2 = (corner * spatial_scale - (0.5 if aligned else 0.0) for corner in corners)
        ys = _samples(y1, y2, bins[0], sampling_ratio, aligned).to(input.device, dtype)
        xs = _samples(x1, x2, bins[1], sampling_ratio, aligned).to(input.device, dtype)
        if ys.numel() and xs.numel():
            maximum = _maximum_of_samples(input[int(image)].to(dtype), ys, xs)
            output[index], argmax_y[index], argmax_x[index] = maximum
        else:
            output[index], argmax_y[index], argmax_x[index] = EMPTY, -1, -1


def _samples(start: float, end: float, bins: int, sampling_ratio: int, aligned: bool) -> Tensor:
    """Return where one axis is sampled, shape ``(bins, samples)``."""
    length = end - start if aligned else max(end - start, 1.0)
    count = sampling_ratio if sampling_ratio > 0 else max(math.ceil(length / bins), 0)
    inside = (torch.arange(count, dtype=torch.float64) + 0.5) / max(count, 1)
    return start + (torch.arange(bins, dtype=torch.float64)[:, None] + inside) * (length / bins)


def _maximum_of_samples(feature: Tensor, ys: Tensor, xs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return each bin's maximum over its samples and where it lies, three tensors ``(C, bins_y, bins_x)``."""
    y_low, y_high, y_low_weight, y_high_weight = _neighbours(ys.flatten(), feature.shape[1])
    x_low, x_high, x_low_weight, x_high_weight = _neighbours(xs.flatten(), feature.shape[2])
    rows = feature[:, y_low] * y_low_weight[:, None] + feature[:, y_high] * y_high_weight[:, None]
    samples = rows[:, :, x_low] * x_low_weight + rows[:, :, x_high] * x_high_weight
    samples = samples.view(-1, *ys.shape, *xs.shape).transpose(2, 3).flatten(3)
    value, best = samples.max(dim=-1)
    at_y = ys[torch.arange(len(ys), device=ys.device)[:, None], best // xs.shape[1]]
    at_x = xs[torch.arange(len(xs), device=xs.device), best % xs.shape[1]]
    return value, at_y, at_x


def _neighbours(at: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the two pixels around each coordinate and their bilinear weights, 0 more than a pixel outside."""
    inside = (at >= -1) & (at <= size)
    at = at.clamp(0, size - 1)
    low = at.floor().long()
    high = (low + 1).clamp(max=size - 1)
    high_weight = at - low
    return low, high, (1 - high_weight) * inside, high_weight * inside


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``grad_input``, shape ``(N, C, H, W)``; the arguments are those of :func:`roi_align_forward`."""
    if not len(rois):
        return
    dtype = compute_dtype(grad_output)
    grad_output, rois = grad_output.to(dtype), rois.to(dtype)
    if pool_mode != MAX:
        bins = (aligned_height, aligned_width)
        grad = torch.ops.torchvision._roi_align_backward(
            grad_output, rois, spatial_scale, *bins, *grad_input.shape, sampling_ratio, aligned
        )
        grad_input.copy_(grad)
        return
    _, channels, height, width = grad_input.shape
    sampled = argmax_y != -1
    image = rois[:, 0].long()[:, None] * channels + torch.arange(channels, device=rois.device)
    grad = grad_output.new_zeros(grad_input.numel())
    y_low, y_high, *y_weights = _neighbours(argmax_y.to(dtype), height)
    x_low, x_high, *x_weights = _neighbours(argmax_x.to(dtype), width)
    for y, y_weight in zip((y_low, y_high), y_weights, strict=True):
        for x, x_weight in zip((x_low, x_high), x_weights, strict=True):
            index = (image[:, :, None, None] * height + y) * width + x
            grad.index_add_(0, index.flatten(), (grad_output * y_weight * x_weight * sampled).flatten())
    grad_input.copy_(grad.view_as(grad_input))
