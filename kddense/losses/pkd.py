"""PKD (Cao et al., "PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient",
NeurIPS 2022)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kddense.losses._channels import centred, channel_rows
from kddense.losses._checks import check_choice, check_same_shape, full_precision
from kddense.registry import MODELS

EPSILON = 1e-6


def pearson_distance(student: Tensor, teacher: Tensor, mode: str = 'paper') -> Tensor:
    """One minus Pearson's correlation of the student's and the teacher's channels, ``1 - r``, averaged over channels.

    Every channel of both is brought to mean 0 and standard deviation 1 over all images and positions of the batch; half
    the mean squared difference of what remains is ``1 - r``, averaged over channels. Neither a channel's scale nor its
    mean is imitated, so that no channel, level or teacher of large values drowns the others.

    A channel that is constant correlates with nothing: its share is ½, and its gradient is finite.

    The statistics are those of the batch at hand. Under data parallelism each process takes its own, so that two
    processes with half the batch each do not add up to one process with the whole.

    Args:
        student: Features after their connector, shape ``(N, C, H, W)``, of any floating dtype; computed in float32, or in
            float64 if either input is.
        teacher: The teacher's, same shape. No gradient flows into it.
        mode: ``'paper'``: the standard deviation that makes it ``1 - r`` exactly. ``'code'`` (mmrazor's): its unbiased
            estimate plus 1e-6, which makes it about ``(n - 1) / n`` of that for channels of n values, and less for channels
            that are almost constant.

    Returns:
        A scalar; 0 that back-propagates for maps with fewer than two values per channel, which have no deviation.

    Raises:
        ValueError: If the inputs are not maps of one shape, or ``mode`` is unknown.

    Example:
        >>> import torch
        >>> teacher, student = torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([0.0, 0.0, 1.0, 1.0])
        >>> pearson_distance(student.view(1, 1, 2, 2), teacher.view(1, 1, 2, 2))
        tensor(0.1056)
    """
    check_same_shape(student=student, teacher=teacher)
    check_choice('mode', mode, ('paper', 'code'))
    if student.ndim != 4:
        raise ValueError(f'student and teacher must be maps of shape (N, C, H, W), got {tuple(student.shape)}')
    student, teacher = full_precision(student, teacher.detach())
    values = student.numel() // max(student.shape[1], 1)
    if values < 2:
        return student.sum() * 0
    standardise = _standardised if mode == 'paper' else _standardised_as_code
    return F.mse_loss(standardise(student), standardise(teacher)) / 2


def _standardised(maps: Tensor) -> Tensor:
    # A constant channel is exactly 0 after this, where its mean in float32 would leave a remainder to be blown up.
    maps = maps - maps[:1, :, :1, :1].detach()
    # The square keeps the divisor of such a channel at 1e-6, and the root differentiable.
    return F.batch_norm(maps, None, None, training=True, eps=EPSILON**2)


def _standardised_as_code(maps: Tensor) -> Tensor:
    values, deviation = centred(channel_rows(maps - maps[:1, :, :1, :1].detach()))
    return values / (deviation + EPSILON)


@MODELS.register_module()
class PKDLoss(nn.Module):
    """:func:`pearson_distance`, averaged over channels.

    Args:
        mode: ``'paper'`` or ``'code'``.

    Raises:
        ValueError: If ``mode`` is unknown.
    """

    def __init__(self, mode: str = 'paper') -> None:
        super().__init__()
        check_choice('mode', mode, ('paper', 'code'))
        self.mode = mode

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return pearson_distance(student, teacher, self.mode)

    def extra_repr(self) -> str:
        return f'mode={self.mode!r}'
