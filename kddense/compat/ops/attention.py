"""Deformable attention (Zhu et al., Deformable DETR, ICLR 2021) and PSANet's masks (Zhao et al., ECCV 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from ._common import compute_dtype


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Return the attended values, shape ``(N, Q, heads * D)``; mmcv comes here on CUDA only.

    Args:
        value: Shape ``(N, keys, heads, D)``.
        value_spatial_shapes: Height and width of each level, shape ``(levels, 2)``.
        value_level_start_index: Not used: the shapes tell.
        sampling_locations: x, y in [0, 1], shape ``(N, Q, heads, levels, points, 2)``.
        attention_weights: Shape ``(N, Q, heads, levels, points)``.
        im2col_step: Not used.
    """
    return _attend(value_spatial_shapes, value, sampling_locations, attention_weights).to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Fill the three gradients; the arguments are those of :func:`ms_deform_attn_forward`."""
    inputs = [tensor.detach().requires_grad_() for tensor in (value, sampling_locations, attention_weights)]
    with torch.enable_grad():
        output = _attend(value_spatial_shapes, *inputs)
    grads = torch.autograd.grad(output, inputs, grad_output.to(output.dtype))
    for filled, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads, strict=True):
        filled.copy_(grad)


def _attend(shapes: Tensor, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch  # mmcv imports us, not we it

    dtype = compute_dtype(value)
    # a list of integers: a tensor on the GPU would be read back for every level
    return multi_scale_deformable_attn_pytorch(value.to(dtype), shapes.tolist(), locations.to(dtype), weights.to(dtype))


def psamask_forward(
    input: Tensor,
    output: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Spread each position's mask, which is centred on it, over the whole map.

    Args:
        input: Shape ``(N, h_mask * w_mask, h_feature, w_feature)``.
        output: Filled, shape ``(N, h_feature * w_feature, h_feature, w_feature)``; 0 where the mask does not reach.
        psa_type: 0 to collect (positions looked at come first), 1 to distribute (positions looking come first).
        num_: N.
        h_feature: Rows of the map.
        w_feature: Columns of the map.
        h_mask: Rows of the mask.
        w_mask: Columns of the mask.
        half_h_mask: The mask's centre row.
        half_w_mask: The mask's centre column.
    """
    index, reached = _mask_positions(input, h_feature, w_feature, h_mask, w_mask, half_h_mask, half_w_mask)
    spread = input.flatten(2).gather(1, index.expand(num_, -1, -1)) * reached
    output.copy_((spread if psa_type == 0 else spread.transpose(1, 2)).reshape(output.shape))


def psamask_backward(
    grad_output: Tensor,
    grad_input: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Fill ``grad_input``; the arguments are those of :func:`psamask_forward`."""
    index, reached = _mask_positions(grad_output, h_feature, w_feature, h_mask, w_mask, half_h_mask, half_w_mask)
    grad = grad_output.flatten(2)
    grad = (grad if psa_type == 0 else grad.transpose(1, 2)) * reached
    filled = torch.zeros_like(grad_input).flatten(2).scatter_add_(1, index.expand(num_, -1, -1), grad)
    grad_input.copy_(filled.view_as(grad_input))


def _mask_positions(
    like: Tensor, height: int, width: int, h_mask: int, w_mask: int, half_h: int, half_w: int
) -> tuple[Tensor, Tensor]:
    """Return which entry of a position's mask speaks about each other position, and whether one does.

    Returns:
        Two tensors ``(H * W, H * W)``: positions looked at by positions looking.
    """
    position = torch.arange(height * width, device=like.device)
    row, column = position // width, position % width
    mask_row = row[:, None] - row + half_h
    mask_column = column[:, None] - column + half_w
    reached = (mask_row >= 0) & (mask_row < h_mask) & (mask_column >= 0) & (mask_column < w_mask)
    return (mask_row * w_mask + mask_column) * reached, reached.to(like.dtype)
