"""What the processor at hand can compute."""

import pytest
import torch

# Without it onnxruntime adds 8-bit products in 16 bits, which large ones overflow.
needs_vnni = pytest.mark.skipif(
    not getattr(torch.cpu, '_is_vnni_supported', lambda: True)(),
    reason='8-bit sums of onnxruntime overflow without VNNI',
)
