"""Squared differences of features, summed up image by image."""

from __future__ import annotations

from torch import Tensor

from kddense.losses._checks import check_same_shape, full_precision


def squares_per_image(student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
    """Sum of squared differences over channels and positions, averaged over the images of the batch.

    Args:
        student: Batch first, of any floating dtype; computed in float32, or in float64 if either input is.
        teacher: Same shape. Not detached, the layer that made it may learn.
        weight: What each difference counts, of a shape that can be broadcast to theirs; 1 without it. No gradient flows
            into it.

    Returns:
        A scalar; for an empty batch, a 0 that back-propagates.

    Raises:
        ValueError: If the shapes differ.
    """
    check_same_shape(student=student, teacher=teacher)
    student, teacher = full_precision(student, teacher)
    squares = (student - teacher).square()
    if weight is not None:
        squares = squares * weight.detach().to(squares.dtype)
    return squares.sum() / max(len(student), 1)
