"""Deformable convolution v1 (Dai et al., ICCV 2017) and v2 (Zhu et al., CVPR 2019), handed to torchvision.

The scratch tensors that mmcv passes along (``columns``, ``ones``) are not used.
"""

from __future__ import annotations

from typing import Any

import torch
import torchvision  # noqa: F401  registers torch.ops.torchvision
from torch import Tensor
from torch.nn import functional as F

from ._common import compute_dtype

OUTSIDE = 1e6  # an offset beyond every image: torchvision dies with the process of one that is NaN


def _v1_geometry(options: dict[str, Any]) -> tuple[int, ...]:
    """Return stride, padding, dilation (rows before columns), groups and offset groups from mmcv's v1 arguments."""
    names = ('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW', 'group', 'deformable_group')
    return tuple(options[name] for name in names)


def _v2_geometry(options: dict[str, Any]) -> tuple[int, ...]:
    """As :func:`_v1_geometry`, from mmcv's v2 arguments."""
    names = ('stride_h', 'stride_w', 'pad_h', 'pad_w', 'dilation_h', 'dilation_w', 'group', 'deformable_group')
    return tuple(options[name] for name in names)


def _forward(
    output: Tensor,
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    geometry: tuple[int, ...],
) -> None:
    tensors = _tensors(input, weight, offset, mask, bias)
    found = torch.ops.torchvision.deform_conv2d(*tensors, *geometry, mask is not None)
    output.copy_(found.masked_fill(offset.isnan().any(), torch.nan))


def _backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    geometry: tuple[int, ...],
) -> tuple[Tensor, ...]:
    """Return the gradients of input, weight, offset, mask and bias."""
    tensors = _tensors(input, weight, offset, mask, None)
    grad = grad_output.to(tensors[0].dtype)
    return torch.ops.torchvision._deform_conv2d_backward(grad, *tensors, *geometry, mask is not None)


def _tensors(input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, bias: Tensor | None) -> list[Tensor]:
    if mask is None:
        mask = input.new_zeros((input.shape[0], 1))  # torchvision wants one, even where it is told not to use it
    if bias is None:
        bias = input.new_zeros(weight.shape[0])
    offset = offset.to(compute_dtype(input)).nan_to_num(OUTSIDE, OUTSIDE, -OUTSIDE)
    return [tensor.to(compute_dtype(input)) for tensor in (input, weight, offset, mask, bias)]


def _as_read(values: Tensor, output: Tensor) -> Tensor:
    """Return offsets or weights of kernel points as mmcv's kernels read them.

    For each image they run through memory by the output's height and width, whatever the values' own are. mmdet's DyHead
    depends on it: it gives the offsets of one level to the next smaller one.
    """
    size = output.shape[-2:]
    if values.shape[-2:] == size or values.shape[-2:].numel() < size.numel():
        return values
    channels = values.shape[1]
    return values.flatten(1)[:, : channels * size.numel()].unflatten(1, (channels, *size))


def deform_conv_forward(
    input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor, **options: Any
) -> None:
    """Fill ``output``, shape ``(N, O, H', W')``.

    Args:
        input: Shape ``(N, C, H, W)``.
        weight: Shape ``(O, C / group, kH, kW)``.
        offset: dy, dx of each kernel point, shape ``(N, 2 * deformable_group * kH * kW, H', W')``.
        output: Filled.
        columns: Not used.
        ones: Not used.
        **options: ``dH, dW, padH, padW, dilationH, dilationW, group, deformable_group``; others are not used.
    """
    _forward(output, input, weight, offset, None, None, _v1_geometry(options))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,  # noqa: N803
    gradInput: Tensor,  # noqa: N803
    gradOffset: Tensor,  # noqa: N803
    weight: Tensor,
    columns: Tensor,
    **options: Any,
) -> None:
    """Fill ``gradInput`` and ``gradOffset``; the arguments are those of :func:`deform_conv_forward`."""
    grad_input, _, grad_offset, *_ = _backward(gradOutput, input, weight, offset, None, _v1_geometry(options))
    gradInput.copy_(grad_input)
    gradOffset.copy_(grad_offset)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,  # noqa: N803
    gradWeight: Tensor,  # noqa: N803
    columns: Tensor,
    ones: Tensor,
    **options: Any,
) -> None:
    """Add ``scale`` times the gradient to ``gradWeight``; the arguments are those of :func:`deform_conv_forward`."""
    # The weight's gradient does not depend on the weight, which mmcv does not pass here.
    grads = _backward(gradOutput, input, torch.zeros_like(gradWeight), offset, None, _v1_geometry(options))
    gradWeight.add_(grads[1].to(gradWeight.dtype), alpha=options['scale'])


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    with_bias: bool,
    **options: Any,
) -> None:
    """Fill ``output``, shape ``(N, O, H', W')``.

    Args:
        input: Shape ``(N, C, H, W)``.
        weight: Shape ``(O, C / group, kernel_h, kernel_w)``.
        bias: Shape ``(O,)``, or empty.
        ones: Not used.
        offset: As in :func:`deform_conv_forward`.
        mask: Weight of each kernel point, shape ``(N, deformable_group * kernel_h * kernel_w, H', W')``.
        output: Filled.
        columns: Not used.
        with_bias: Whether to add ``bias``.
        **options: ``stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group``; others are
            not used.
    """
    offset, mask = (_as_read(values, output) for values in (offset, mask))
    _forward(output, input, weight, offset, mask, bias if with_bias else None, _v2_geometry(options))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    with_bias: bool,
    **options: Any,
) -> None:
    """Fill the five gradients; the arguments are those of :func:`modulated_deform_conv_forward`."""
    offset, mask = (_as_read(values, grad_output) for values in (offset, mask))
    grads = _backward(grad_output, input, weight, offset, mask, _v2_geometry(options))
    for filled, grad in zip((grad_input, grad_weight, grad_offset, grad_mask), grads[:4], strict=True):
        rest = filled.shape[1:].numel() - grad.shape[1:].numel()  # of offsets that are not read
        filled.copy_(F.pad(grad.flatten(1), (0, rest)).view(filled.shape))
    if with_bias:
        grad_bias.copy_(grads[4])
