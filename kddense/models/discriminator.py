"""The discriminator of structured knowledge distillation: it tells a teacher's score maps from a student's.

Liu et al., "Structured Knowledge Distillation for Dense Prediction", arXiv:1903.04197, section 3.2, with self-attention
as in Zhang et al., "Self-Attention Generative Adversarial Networks", arXiv:1805.08318.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from kddense.registry import MODELS

_LAST_KERNEL = 4


@MODELS.register_module()
class Discriminator(nn.Module):
    """Convolutional discriminator with self-attention: one score per sample, conditioned on the image.

    Four convolutions, each halving the size, with spectral normalisation and leaky ReLUs; self-attention after the
    third and after the fourth; and a fifth convolution to a map of scores, whose mean is the score. The scores are
    unbounded, as Wasserstein and hinge losses want them; there is no sigmoid.

    The authors' released code needs maps of 65 x 65 exactly. Here any size from 16 x 16 up will do: what reaches the
    last convolution smaller than its 4 x 4 kernel is padded with zeros, so that maps of 65 x 65 are treated as there.
    That code is unconditional and normalises its input, ``condition_channels=0, input_norm=True``; the paper is
    conditional and normalises its input.

    In training mode each forward pass makes one step of spectral normalisation's power iteration, in the buffers. No
    pass draws a random number. Convolutions follow autocast; the attention's softmax over positions, its products and
    the mean over the scores are computed in float32, or in float64 for a discriminator in float64.

    Args:
        in_channels: Channels of the maps: classes, or 1 for depth.
        condition_channels: Channels of the condition; 0 for a discriminator without one.
        channels: Channels after the first convolution; each of the next three doubles them.
        attention: Whether to use the two self-attention modules.
        input_norm: Whether to batch-normalise maps and condition, which takes up the scale of logits. In training mode
            it makes one sample's score depend on the others, so that the gradient penalty, meant for each sample on
            its own, sees all of them mixed. Hence off by default.

    Attributes:
        least_size: The least height and width of the maps.

    Raises:
        ValueError: If ``in_channels`` or ``channels`` is below 1, or ``condition_channels`` is below 0.

    Example:
        >>> discriminator = Discriminator(in_channels=19, channels=8)
        >>> images, logits = torch.randn(2, 3, 512, 512), torch.randn(2, 19, 64, 64)
        >>> discriminator(logits, images).shape
        torch.Size([2])
    """

    least_size = 16

    def __init__(
        self,
        in_channels: int,
        condition_channels: int = 3,
        channels: int = 64,
        attention: bool = True,
        input_norm: bool = False,
    ) -> None:
        super().__init__()
        if min(in_channels, channels) < 1:
            raise ValueError(f'in_channels and channels must be at least 1, got {in_channels} and {channels}')
        if condition_channels < 0:
            raise ValueError(f'condition_channels must be at least 0, got {condition_channels}')
        self.in_channels = in_channels
        self.condition_channels = condition_channels
        both = in_channels + condition_channels
        self.input_norm = nn.BatchNorm2d(both) if input_norm else nn.Identity()
        self.blocks = nn.Sequential(
            _halving_block(both, channels),
            _halving_block(channels, 2 * channels),
            _halving_block(2 * channels, 4 * channels),
            SelfAttention(4 * channels) if attention else nn.Identity(),
            _halving_block(4 * channels, 8 * channels),
            SelfAttention(8 * channels) if attention else nn.Identity(),
        )
        self.score = nn.Conv2d(8 * channels, 1, _LAST_KERNEL)

    def forward(self, maps: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return one score per sample.

        Args:
            maps: Logits, probabilities, depth or the like, shape ``(N, in_channels, h, w)``, of any floating dtype;
                taken as float32, or as float64.
            condition: Images, shape ``(N, condition_channels, H, W)``, of any size; resized bilinearly to that of the
                maps. Needed unless ``condition_channels`` is 0, and refused then.

        Returns:
            Scores of shape ``(N,)``, in float32 or float64.

        Raises:
            ValueError: If a shape does not fit, the maps are smaller than ``least_size``, or the condition is missing
                or unwanted.
        """
        self._check(maps, condition)
        maps = _full_precision(maps)
        if condition is not None:
            resized = F.interpolate(
                _full_precision(condition), size=maps.shape[-2:], mode='bilinear', align_corners=False
            )
            maps = torch.cat([maps, resized], dim=1)
        features = self.blocks(self.input_norm(maps))
        return _full_precision(self.score(_pad_to(features, _LAST_KERNEL))).mean(dim=(1, 2, 3))

    def _check(self, maps: Tensor, condition: Tensor | None) -> None:
        shape = tuple(maps.shape)
        if maps.ndim != 4 or shape[1] != self.in_channels:
            raise ValueError(f'maps must have shape (N, {self.in_channels}, h, w), got {shape}')
        if min(shape[-2:]) < self.least_size:
            height, width = shape[-2:]
            raise ValueError(
                f'maps must be at least {self.least_size} x {self.least_size}, got {height} x {width}; '
                'train on larger crops, or give the student a smaller output stride'
            )
        if self.condition_channels == 0 and condition is not None:
            raise ValueError('condition must be None for a discriminator built with condition_channels=0')
        if self.condition_channels == 0:
            return
        wanted = f'({shape[0]}, {self.condition_channels}, H, W)'
        if condition is None:
            raise ValueError(
                f'condition must be images of shape {wanted}; to do without, build with condition_channels=0'
            )
        got = tuple(condition.shape)
        if condition.ndim != 4 or got[:2] != (shape[0], self.condition_channels):
            raise ValueError(f'condition must have shape {wanted}, got {got}')


class SelfAttention(nn.Module):
    """Self-attention over positions, added to the input (SAGAN, section 3).

    ``y_i = x_i + γ · Σ_j softmax_j(q_iᵀ k_j) v_j``, where q, k and v are 1 x 1 convolutions of x. γ is learned and
    starts at 0, where the module returns its input.

    Args:
        channels: Channels of the maps; queries and keys have an eighth of them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(channels // 8, 1)
        self.query = nn.Conv2d(channels, narrow, 1)
        self.key = nn.Conv2d(channels, narrow, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape, ``(N, channels, h, w)``."""
        query, key, value = (
            _full_precision(convolve(maps)).flatten(2) for convolve in (self.query, self.key, self.value)
        )
        # By hand: the fused attention kernels have no second derivative, which a gradient penalty takes.
        with torch.autocast(maps.device.type, enabled=False):
            attention = (query.transpose(1, 2) @ key).softmax(dim=2)
            attended = value @ attention.transpose(1, 2)
        return maps + self.gamma * attended.reshape(maps.shape)


class _Convolution(nn.Conv2d):
    """A convolution that reads its weight in full precision and then follows autocast."""

    def forward(self, maps: Tensor) -> Tensor:
        # Autocast would run the power iteration's products, but not its dot product, in half precision, and these
        # do not mix.
        with torch.autocast(maps.device.type, enabled=False):
            weight = self.weight
        return F.conv2d(maps, weight, self.bias, self.stride, self.padding)


def _halving_block(in_channels: int, out_channels: int) -> nn.Sequential:
    convolution = _Convolution(in_channels, out_channels, kernel_size=4, stride=2, padding=1)
    return nn.Sequential(spectral_norm(convolution), nn.LeakyReLU(0.1))


def _pad_to(maps: Tensor, least: int) -> Tensor:
    below, right = (max(least - length, 0) for length in maps.shape[-2:])
    if not below and not right:
        return maps
    return F.pad(maps, (right // 2, right - right // 2, below // 2, below - below // 2))


def _full_precision(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
