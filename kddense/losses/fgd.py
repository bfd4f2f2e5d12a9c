"""FGD (Yang et al., "Focal and Global Knowledge Distillation for Detectors", CVPR 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kddense.losses._checks import check_positive, check_same_shape, full_precision
from kddense.losses._squares import squares_per_image
from kddense.losses.fbkd import spatial_attention
from kddense.registry import MODELS


def channel_attention(features: Tensor, temperature: float = 0.5) -> Tensor:
    """Which channels of a map are strong: ``C · softmax over channels of (mean over positions of |x| / T)``, 1 on average.

    Args:
        features: Shape ``(N, C, H, W)``, of any floating dtype; computed in float32 at least.
        temperature: The paper's T, above 0.

    Returns:
        Shape ``(N, C, 1, 1)``.

    Raises:
        ValueError: If it is no map, or ``temperature`` is not above 0.

    Example:
        >>> channel_attention(torch.tensor([[[[1.0]], [[0.0]]]])).flatten()
        tensor([1.7616, 0.2384])
    """
    check_positive('temperature', temperature)
    if features.ndim != 4:
        raise ValueError(f'features must be maps of shape (N, C, H, W), got {tuple(features.shape)}')
    (features,) = full_precision(features)
    strength = features.abs().mean((2, 3), keepdim=True) / temperature
    return strength.softmax(1) * strength.shape[1]


def focal_masks(
    boxes: Sequence[Tensor], images: Sequence[Sequence[float]], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """What each position of a map counts in the foreground, and in the background.

    A box covers all positions that it touches, and the one that its lower right corner touches beside it, as in the released
    code: from the floor of its corner to the ceiling of the other, both included. Its positions count one by the number of
    them, so that small boxes are not drowned; of several boxes the smallest counts. All other positions share the background
    equally.

    Args:
        boxes: For each image corners ``(G, 4)``, x1, y1, x2, y2, in pixels.
        images: For each image height and width of what the map covers, in pixels.
        size: Height and width of the map.

    Returns:
        Two float32 tensors ``(N, 1, h, w)``; the foreground of an image without boxes is 0, and so is the background of one
        that is covered by boxes.
    """
    pairs = [_masks_of(one, image, size) for one, image in zip(boxes, images, strict=True)]
    if not pairs:
        return torch.zeros(0, 1, *size), torch.zeros(0, 1, *size)
    foreground, background = (torch.stack(side).unsqueeze(1) for side in zip(*pairs, strict=True))
    return foreground, background


def _masks_of(boxes: Tensor, image: Sequence[float], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    scale = boxes.new_tensor([size[1] / image[1], size[0] / image[0]], dtype=torch.float32)
    low, high = (boxes[:, :2] * scale).floor(), (boxes[:, 2:] * scale).ceil()
    share = 1 / (high - low + 1).prod(dim=1)
    columns, rows = (
        (place >= low[:, axis, None]) & (place <= high[:, axis, None])
        for axis, place in enumerate(torch.arange(length, device=boxes.device) for length in reversed(size))
    )
    covered = rows[:, :, None] & columns[:, None, :]
    # A row of zeros stands for images without boxes, of which there would be no greatest value.
    shares = torch.cat([torch.zeros(1, *size, device=boxes.device), covered * share[:, None, None]])
    foreground = shares.amax(dim=0)
    background = (foreground == 0).float()
    return foreground, background / background.sum().clamp(min=1)


def focal_distance(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float = 0.5) -> Tensor:
    """Squared differences where the teacher attends: ``Σ mask · A_position · A_channel · (t - s)²``, averaged over images.

    Args:
        student: Features behind their connector, shape ``(N, C, H, W)``, of any floating dtype; computed in float32, or in
            float64 if either input is.
        teacher: The teacher's, same shape, whose attention counts. No gradient flows into it.
        mask: What each position counts, ``(N, 1, H, W)``, see :func:`focal_masks`.
        temperature: Of the attention, the paper's T.

    Returns:
        A scalar; for an empty batch, a 0 that back-propagates.

    Raises:
        ValueError: If the inputs are not maps of one shape, or ``temperature`` is not above 0.
    """
    check_same_shape(student=student, teacher=teacher)
    teacher = teacher.detach()
    attention = spatial_attention(teacher, temperature) * channel_attention(teacher, temperature)
    return squares_per_image(student, teacher, mask * attention)


def attention_difference(student: Tensor, teacher: Tensor, temperature: float = 0.5) -> Tensor:
    """Absolute differences of both attentions, summed over positions and over channels, averaged over images.

    Args:
        student: Features behind their connector, shape ``(N, C, H, W)``, of any floating dtype; computed in float32, or in
            float64 if either input is.
        teacher: The teacher's, same shape. No gradient flows into it.
        temperature: Of the attention, the paper's T.

    Returns:
        A scalar; for an empty batch, a 0 that back-propagates.

    Raises:
        ValueError: If the inputs are not maps of one shape, or ``temperature`` is not above 0.
    """
    check_same_shape(student=student, teacher=teacher)
    student, teacher = full_precision(student, teacher.detach())
    differences = [
        (attention(student, temperature) - attention(teacher, temperature)).abs().sum()
        for attention in (spatial_attention, channel_attention)
    ]
    return (differences[0] + differences[1]) / max(len(student), 1)


@MODELS.register_module()
class FGDLoss(nn.Module):
    """The focal terms: :func:`focal_distance` of foreground and background, and :func:`attention_difference`.

    Args:
        temperature: Of the attention, the paper's T.

    Raises:
        ValueError: If ``temperature`` is not above 0.
    """

    def __init__(self, temperature: float = 0.5) -> None:
        super().__init__()
        check_positive('temperature', temperature)
        self.temperature = temperature

    def forward(
        self, student: Tensor, teacher: Tensor, foreground: Tensor, background: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the three terms, scalars; the masks are those of :func:`focal_masks`."""
        return (
            focal_distance(student, teacher, foreground, self.temperature),
            focal_distance(student, teacher, background, self.temperature),
            attention_difference(student, teacher, self.temperature),
        )

    def extra_repr(self) -> str:
        return f'temperature={self.temperature}'
