"""Low precision where the device has no arithmetic for it: right, and many times slower than float32."""

from __future__ import annotations

from functools import cache

import torch
from mmengine.logging import print_log

AMPERE = (8, 0)  # the first compute capability with bfloat16


@cache
def tell_if_slow(dtype: torch.dtype, device: torch.device, name: str) -> None:
    """Say once in a process that a teacher would be faster in float32.

    Args:
        dtype: What it computes in.
        device: Where it does.
        name: What messages call it.
    """
    if not has_arithmetic(dtype, device):
        word = 'bf16' if dtype == torch.bfloat16 else 'fp16'
        print_log(
            f"{name}.precision '{word}': this {'CPU' if device.type == 'cpu' else 'GPU'} has no arithmetic for it, and "
            "computes it many times slower than float32: leave it out, or give 'fp32'",
            logger='current',
            level=30,
        )


def has_arithmetic(dtype: torch.dtype, device: torch.device) -> bool:
    """Tell whether a CPU or CUDA device computes in a dtype; of other devices nothing is known."""
    if dtype == torch.float32 or device.type not in ('cpu', 'cuda'):
        return True
    if device.type == 'cuda':
        return dtype == torch.float16 or torch.cuda.get_device_capability(device) >= AMPERE
    asked = '_is_mkldnn_bf16_supported' if dtype == torch.bfloat16 else '_is_mkldnn_fp16_supported'
    return bool(getattr(torch.ops.mkldnn, asked, lambda: False)())  # PyTorch before 2.2 does not speak of fp16
