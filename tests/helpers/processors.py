"""What the processor at hand can compute."""

import pytest
import torch

# Sums of 8-bit products overflow in 16 bits before it, and onnxruntime 1.x computes another answer.
needs_vnni = pytest.mark.skipif(
    not getattr(torch.cpu, '_is_vnni_supported', lambda: True)(),
    reason='8-bit sums of onnxruntime overflow without VNNI',
)
