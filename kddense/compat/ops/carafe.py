"""CARAFE (Wang et al., ICCV 2019): upsampling by a kernel of its own for every output pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ._common import compute_dtype


def _reassemble(features: Tensor, masks: Tensor, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    batch, channels, height, width = features.shape
    patches = F.unfold(features, kernel_size, padding=kernel_size // 2)
    patches = patches.view(batch, group_size, channels // group_size, kernel_size**2, height, width)
    kernels = masks.view(batch, group_size, kernel_size**2, height, scale_factor, width, scale_factor)
    output = torch.einsum('ngckhw,ngkhywx->ngchywx', patches, kernels)
    return output.reshape(batch, channels, height * scale_factor, width * scale_factor)


def carafe_naive_forward(
    features: Tensor, masks: Tensor, output: Tensor, kernel_size: int, group_size: int, scale_factor: int
) -> None:
    """Fill ``output``, shape ``(N, C, H * scale_factor, W * scale_factor)``.

    Args:
        features: Shape ``(N, C, H, W)``.
        masks: Kernels, shape ``(N, group_size * kernel_size², H * scale_factor, W * scale_factor)``.
        output: Filled.
        kernel_size: Odd.
        group_size: How many groups of channels have kernels of their own.
        scale_factor: How many times larger the output is.
    """
    dtype = compute_dtype(features)
    output.copy_(_reassemble(features.to(dtype), masks.to(dtype), kernel_size, group_size, scale_factor))


def carafe_naive_backward(
    top_grad: Tensor,
    features: Tensor,
    masks: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill ``bottom_grad`` and ``mask_grad``; the arguments are those of :func:`carafe_naive_forward`."""
    dtype = compute_dtype(features)
    features, masks = (tensor.detach().to(dtype).requires_grad_() for tensor in (features, masks))
    with torch.enable_grad():
        output = _reassemble(features, masks, kernel_size, group_size, scale_factor)
    grads = torch.autograd.grad(output, (features, masks), top_grad.to(dtype))
    bottom_grad.copy_(grads[0])
    mask_grad.copy_(grads[1])


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill ``output`` as :func:`carafe_naive_forward` does.

    ``rfeatures``, which mmcv keeps for the backward pass in place of the features, becomes a copy of them.
    """
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, kernel_size, group_size, scale_factor)


def carafe_backward(
    top_grad: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rtop_grad: Tensor,
    rbottom_grad_hs: Tensor,
    rbottom_grad: Tensor,
    rmask_grad: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill ``bottom_grad`` and ``mask_grad`` as :func:`carafe_naive_backward` does; the other buffers are not used."""
    carafe_naive_backward(top_grad, rfeatures, masks, bottom_grad, mask_grad, kernel_size, group_size, scale_factor)
