"""Losses that can be differentiated twice: some of mmdet's cannot, on GPUs, where mmcv computes them in one piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from kddense.taps import shadowed

from ._models import is_a


@contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Context manager: focal losses are computed step by step, as mmdet does on CPUs; their values stay the same."""
    with ExitStack() as stack:
        for loss in model.modules():
            if is_a(loss, 'FocalLoss') and type(loss).__module__.startswith('mmdet.'):
                stack.enter_context(shadowed(loss, 'forward', _of_one_hot))
        yield


def _of_one_hot(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """mmdet's focal loss takes the way step by step where its targets are one-hot already."""

    def forwarded(pred: Tensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if target.dim() < pred.dim():
            classes = pred.size(1)
            target = F.one_hot(target, num_classes=classes + 1)[:, :classes]
        return forward(pred, target, *args, **kwargs)

    return forwarded
