"""What several operators share."""

from __future__ import annotations

import torch
from torch import Tensor


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """Return the type to compute in: float32, or float64 for float64.

    torchvision lacks some half-precision kernels, and box coordinates lose whole pixels in them.
    """
    return torch.promote_types(tensor.dtype, torch.float32)
