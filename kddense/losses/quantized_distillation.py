"""Soft targets of quantized distillation (Polino, Pascanu, Alistarh, ICLR 2018, arXiv:1802.05668)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from kddense.losses._checks import check_choice, check_positive
from kddense.losses.hinton import sigmoid_soft_target_divergence, soft_target_divergence
from kddense.registry import MODELS


@MODELS.register_module()
class QuantizedDistillationLoss(nn.Module):
    """``τ² · KL`` of softened classes, :func:`soft_target_divergence`, averaged over positions.

    The paper's loss is ``(1 - a) · CE + a · τ² · KL``; a is the weight of the objective, 1 - a that of the task.

    Args:
        temperature: τ, above 0; the authors' 2.
        mode: ``'code'``: also averaged over classes, as the authors' code does by PyTorch's default; it made their numbers.
            ``'paper'``: summed over classes, which is as many times more.
        classes: ``'softmax'``, or ``'sigmoid'`` where each class is decided on its own, which the paper does not treat.

    Raises:
        ValueError: If ``temperature`` is not above 0, or there is no such mode.

    Example:
        >>> import torch
        >>> teacher, student = torch.tensor([[2.0, 0.0, -2.0]]), torch.tensor([[1.0, 0.0, 0.0]])
        >>> QuantizedDistillationLoss()(student, teacher)
        tensor(0.1725)
    """

    compares_classes = True

    def __init__(
        self,
        temperature: float = 2.0,
        mode: Literal['code', 'paper'] = 'code',
        classes: Literal['softmax', 'sigmoid'] = 'softmax',
    ) -> None:
        super().__init__()
        check_positive('temperature', temperature)
        check_choice('mode', mode, ('code', 'paper'))
        check_choice('classes', classes, ('softmax', 'sigmoid'))
        self.temperature = temperature
        self.mode = mode
        self.classes: str = classes

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of logits, rows ``(M, C)`` or maps ``(N, C, H, W)``: a scalar."""
        divergence = soft_target_divergence if self.classes == 'softmax' else sigmoid_soft_target_divergence
        loss = divergence(student, teacher, self.temperature)
        return loss / student.shape[1] if self.mode == 'code' else loss

    def extra_repr(self) -> str:
        return f'temperature={self.temperature}, mode={self.mode!r}, classes={self.classes!r}'
