"""Running a model on a tiny blank batch: what its parts return is known from then on, before the first real one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from mmengine.utils import to_2tuple
from torch import Tensor, nn

from kddense.exchange import ViewError
from kddense.random_state import forked_random_state
from kddense.taps import TapError

# DINO picks 900 queries out of the positions of an image, and LRASPP pools over windows of 49: a tiny map is too small.
SIZES = 64, 256, 512

Found = TypeVar('Found')


@torch.no_grad()
def run_on_blank(model: nn.Module, owner: str, images: list[Tensor], run: Callable[[Tensor], Found]) -> Found:
    """Run a model in eval mode on the first of several blank batches that it takes, and leave no trace in it.

    Args:
        model: The model.
        owner: How messages call it.
        images: Batches to try, the likeliest first.
        run: What to do with one.

    Raises:
        ViewError: If it takes none of them.
    """
    faults = []
    with in_eval_mode(model), forked_random_state(), _runnable(model):
        for batch in images:
            try:
                return run(batch)
            except (TapError, ViewError):
                raise
            except (RuntimeError, ValueError, AssertionError) as error:
                faults.append(str(error).partition('\n')[0])
    sizes = ', '.join(str(tuple(batch.shape[1:])) for batch in images)
    raise ViewError(f'{owner} ({type(model).__name__}) runs on no blank image of {sizes}: {faults[0]}')


def blank_batches(model: Any, channels: int | None, divisor: int) -> list[Tensor]:
    """Return blank batches of one image that a model may take, the likeliest first.

    Args:
        model: A model with a ``backbone``, or any other.
        channels: The image's channels if they are known, else those of its first convolution, or 3.
        divisor: What its images are padded to multiples of.
    """
    backbone = getattr(model, 'backbone', model)
    first = next((layer.in_channels for layer in backbone.modules() if isinstance(layer, nn.Conv2d)), 3)
    depths = [channels] if channels else list(dict.fromkeys([3, first]))
    own = _own_image_size(backbone)
    tiny, *larger = [(-(-size // divisor) * divisor,) * 2 for size in SIZES]
    sizes = [tiny, *([own] if own else []), *larger]
    weight = next(model.parameters())
    return [weight.new_zeros(1, depth, *size) for size, depth in itertools.product(dict.fromkeys(sizes), depths)]


def _own_image_size(backbone: Any) -> tuple[int, int] | None:
    """Return the only size that some transformers take."""
    size = getattr(backbone, 'img_size', None)
    if size is None:
        size = getattr(getattr(backbone, 'patch_embed', None), 'img_size', None)
    return to_2tuple(size) if isinstance(size, (int, tuple, list)) else None


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Context manager: the model is in eval mode; afterwards each of its modules is in its own mode again."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _runnable(model: nn.Module) -> Iterator[None]:
    """Context manager: float16 weights on a CPU are wide; PyTorch before 2.3 cannot convolve with them there."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    halves = [tensor for tensor in tensors if tensor.dtype == torch.float16 and tensor.device.type == 'cpu']
    for tensor in halves:
        tensor.data = tensor.data.float()
    try:
        yield
    finally:
        for tensor in halves:
            tensor.data = tensor.data.half()


@contextmanager
def explained(model: nn.Module, owner: str, part: str) -> Iterator[None]:
    """Context manager: a part of a model that needs more than features ends in one sentence."""
    try:
        yield
    except (TypeError, AttributeError, KeyError, IndexError) as error:
        what = type(model.get_submodule(part)).__name__
        alone = [name for name in ('backbone', 'neck') if hasattr(model, name)]
        raise ViewError(
            f"tap '{part}': this part of the {owner} ({what}) cannot run alone, it needs more than features; "
            f'tap {" or ".join(map(repr, alone)) or "another part"} instead, or a part of these'
        ) from error
