"""The two halves of mmcv's masked convolution, which computes only where a mask says so (guided anchoring)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def masked_im2col_forward(
    im: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Fill ``col`` with the patches around the chosen pixels.

    Args:
        im: One feature map, shape ``(1, C, H, W)``.
        mask_h_idx: Rows of the chosen pixels, shape ``(M,)``.
        mask_w_idx: Their columns.
        col: Filled, shape ``(C * kernel_h * kernel_w, M)``.
        kernel_h: Rows of a patch.
        kernel_w: Columns of a patch.
        pad_h: Zero rows around the map.
        pad_w: Zero columns around the map.
    """
    # at least as much zero padding behind as any patch that starts inside can reach
    padded = F.pad(im[0], (pad_w, max(pad_w, kernel_w), pad_h, max(pad_h, kernel_h)))
    patches = padded.unfold(1, kernel_h, 1).unfold(2, kernel_w, 1)[:, mask_h_idx, mask_w_idx]
    col.copy_(patches.permute(0, 2, 3, 1).reshape(col.shape))


def masked_col2im_forward(
    col: Tensor, mask_h_idx: Tensor, mask_w_idx: Tensor, im: Tensor, height: int, width: int, channels: int
) -> None:
    """Write ``col``, shape ``(channels, M)``, to the chosen pixels of ``im`` ``(1, channels, height, width)``."""
    im[0, :, mask_h_idx, mask_w_idx] = col.to(im.dtype)
