"""MGD (Yang et al., "Masked Generative Distillation", ECCV 2022)."""

from __future__ import annotations

from torch import Tensor, nn

from kddense.losses._checks import check_same_shape
from kddense.losses._squares import squares_per_image
from kddense.registry import MODELS


def without_places(features: Tensor, numbers: Tensor, share: float) -> Tensor:
    """Set about a share of the places of each map to 0, in all channels alike.

    Args:
        features: Shape ``(N, C, H, W)``.
        numbers: Random ones from 0 to 1, ``(N, 1, H, W)``: places with numbers below ``share`` are taken away.
        share: The paper's λ, from 0 to 1.

    Returns:
        Same shape and dtype; gradients flow to the places that are kept.

    Raises:
        ValueError: If the shapes do not fit, or ``share`` is not between 0 and 1.

    Example:
        >>> import torch
        >>> without_places(torch.ones(1, 2, 1, 2), torch.tensor([[[[0.3, 0.7]]]]), 0.5).flatten()
        tensor([0., 1., 0., 1.])
    """
    check_share('share', share)
    if features.ndim != 4 or numbers.shape != (len(features), 1, *features.shape[2:]):
        raise ValueError(
            'features must be maps (N, C, H, W) with a number for each place, (N, 1, H, W), got '
            f'{tuple(features.shape)} and {tuple(numbers.shape)}'
        )
    return features * (numbers >= share).to(features.dtype)


def check_share(name: str, share: float) -> None:
    """Raise ``ValueError`` unless ``share`` is from 0 to 1."""
    if not 0 <= share <= 1:
        raise ValueError(f'{name} must be between 0 and 1, got {share}')


def generation_distance(generated: Tensor, teacher: Tensor) -> Tensor:
    """Squared differences of what was generated and the teacher's features, summed, averaged over the images of the batch.

    All places count, those that were not masked too. The value grows with channels and places, as the authors' weights
    expect.

    Args:
        generated: Made of the student's masked features, shape ``(N, C, H, W)``, of any floating dtype; computed in float32,
            or in float64 if either input is.
        teacher: The teacher's, same shape. No gradient flows into it.

    Returns:
        A scalar; for an empty batch, a 0 that back-propagates.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> import torch
        >>> generation_distance(torch.zeros(2, 1, 1, 2), torch.tensor([1.0, 2.0]).expand(2, 1, 1, 2))
        tensor(5.)
    """
    check_same_shape(generated=generated, teacher=teacher)
    return squares_per_image(generated, teacher.detach())


@MODELS.register_module()
class MGDLoss(nn.Module):
    """:func:`generation_distance`, a sum over channels and places, averaged over images."""

    def forward(self, generated: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return generation_distance(generated, teacher)
