"""RoI pooling (Girshick, Fast R-CNN, ICCV 2015), as mmcv does it: ``roi_pool_forward`` and ``roi_pool_backward``.

torchvision's operator rounds the RoI's corners to whole feature pixels; mmcv's does not, and counts the far corner's
image pixel as inside. So this one is plain PyTorch, one RoI at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._common import compute_dtype


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fill ``output`` with the maximum over each bin's pixels, 0 for an empty bin.

    Args:
        input: Feature map, shape ``(N, C, H, W)``.
        rois: Image index and corners in image pixels, shape ``(R, 5)``.
        output: Filled, shape ``(R, C, pooled_height, pooled_width)``.
        argmax: Filled with the flat position in the map of each maximum, -1 for none; int32, shape of ``output``.
        pooled_height: Rows of bins.
        pooled_width: Columns of bins.
        spatial_scale: Feature pixels per image pixel.
    """
    argmax.fill_(-1)
    if not len(rois):
        return
    rois = rois.to(compute_dtype(rois))
    starts = rois[:, 1:3] * spatial_scale
    sizes = (rois[:, 3:5] + 1) * spatial_scale - starts
    real = (sizes > 0).all(dim=1).tolist()
    y_first, y_end = _bin_edges(starts[:, 1], sizes[:, 1], pooled_height, input.shape[2])
    x_first, x_end = _bin_edges(starts[:, 0], sizes[:, 0], pooled_width, input.shape[3])
    heights = (y_end - y_first).amax(dim=1).tolist()
    widths = (x_end - x_first).amax(dim=1).tolist()
    for index, image in enumerate(rois[:, 0].long().tolist()):
        if not real[index] or heights[index] <= 0 or widths[index] <= 0:
            continue
        ys, y_inside = _pixels(y_first[index], y_end[index], heights[index], input.shape[2])
        xs, x_inside = _pixels(x_first[index], x_end[index], widths[index], input.shape[3])
        inside = y_inside[:, None, :, None] & x_inside[None, :, None, :]
        pixels = input[image][:, ys[:, None, :, None], xs[None, :, None, :]]
        value, best = pixels.masked_fill(~inside, -torch.inf).flatten(3).max(dim=-1)
        # a bin's first pixel, then whole rows and the rest: the position of its maximum in the map
        row = y_first[index][:, None] + best // widths[index]
        position = row * input.shape[3] + x_first[index] + best % widths[index]
        full = inside.flatten(2).any(dim=-1)
        output[index] = torch.where(full, value, value.new_zeros(()))
        argmax[index] = torch.where(full, position, position.new_full((), -1)).to(argmax.dtype)


def _bin_edges(start: Tensor, size: Tensor, bins: int, limit: int) -> tuple[Tensor, Tensor]:
    """Return each bin's first pixel and the one after its last, two tensors ``(R, bins)`` within ``[0, limit]``."""
    step = torch.arange(bins + 1, device=start.device, dtype=start.dtype)
    # Single precision, also for float64 maps, as in mmcv: edges that differ from a whole pixel by noise stay on it.
    edges = (step * (size / bins)[:, None] + start[:, None]).float()
    return edges[:, :-1].floor().long().clamp(0, limit), edges[:, 1:].ceil().long().clamp(0, limit)


def _pixels(first: Tensor, end: Tensor, count: int, limit: int) -> tuple[Tensor, Tensor]:
    """Return ``count`` pixels from each bin's first on, and which of them are its own, both ``(bins, count)``."""
    pixels = first[:, None] + torch.arange(count, device=first.device)
    return pixels.clamp(max=limit - 1), pixels < end[:, None]


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fill ``grad_input``, shape ``(N, C, H, W)``; the arguments are those of :func:`roi_pool_forward`."""
    channels, pixels = grad_input.shape[1], grad_input[0, 0].numel()
    plane = rois[:, 0].long()[:, None] * channels + torch.arange(channels, device=rois.device)
    index = plane[:, :, None, None] * pixels + argmax.long().clamp(min=0)
    grad = torch.zeros(grad_input.numel(), dtype=compute_dtype(grad_input), device=grad_input.device)
    grad.index_add_(0, index.flatten(), (grad_output * (argmax >= 0)).flatten().to(grad.dtype))
    grad_input.copy_(grad.view_as(grad_input))
