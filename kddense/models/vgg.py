"""VGG as the backbone of a detector: the teacher of Chen et al., which mmdet has only in SSD's variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmcv.cnn import VGG as PlainVGG  # noqa: N811  (the class below has its name)
from mmengine.model import BaseModule
from torch import nn

from kddense.registry import MODELS


@MODELS.register_module()
class VGG(PlainVGG, BaseModule):
    """VGG without its classifier, each stage ending in its max pooling.

    Parameters have torchvision's names, so ``init_cfg=dict(type='Pretrained', checkpoint='torchvision://vgg16')`` fits
    (``torchvision://vgg16_bn`` with ``with_bn=True``).

    Args:
        depth: 11, 13, 16 or 19.
        with_bn: With batch normalisation after each convolution.
        out_indices: Stages to return, of 0 to 4. By default C2 to C5, strides 4 to 32, 128, 256, 512 and 512 channels.
        frozen_stages: How many of the first stages are not trained.
        norm_eval: Whether batch normalisation keeps its running statistics.
        init_cfg: How to initialise; Kaiming by default.

    Raises:
        ValueError: If ``depth``, ``out_indices`` or ``frozen_stages`` is not one of these.

    Example:
        >>> import torch
        >>> [tuple(level.shape[1:]) for level in VGG(16)(torch.zeros(1, 3, 64, 64))]
        [(128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2)]
    """

    def __init__(
        self,
        depth: int = 16,
        with_bn: bool = False,
        out_indices: Sequence[int] = (1, 2, 3, 4),
        frozen_stages: int = 0,
        norm_eval: bool = True,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        if depth not in self.arch_settings:
            raise ValueError(f'depth must be one of {", ".join(map(str, self.arch_settings))}, got {depth}')
        if not out_indices or not set(out_indices) <= set(range(5)):
            raise ValueError(f'out_indices must name stages of 0 to 4, got {tuple(out_indices)}')
        if frozen_stages not in range(6):
            raise ValueError(f'frozen_stages must be 0 to 5, got {frozen_stages}')
        super().__init__(depth, with_bn, out_indices=out_indices, frozen_stages=frozen_stages, bn_eval=norm_eval)
        self.init_cfg = init_cfg or dict(type='Kaiming', layer='Conv2d')
        # Now, not at the first train(): DDP looks at what is trained when it wraps the model.
        self.train()

    def init_weights(self) -> None:
        """Initialise by ``init_cfg``, as every module of OpenMMLab, instead of mmcv's own way."""
        BaseModule.init_weights(self)

    def forward(self, x: Any) -> tuple[Any, ...]:
        """Return the chosen stages of images ``(N, 3, H, W)``; always a tuple."""
        stages = super().forward(x)
        return stages if isinstance(stages, tuple) else (stages,)

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        return self
