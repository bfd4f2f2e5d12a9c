"""What memories over steps share: their tensors are state, and no part of what is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class Memory(nn.Module):
    """Holds tensors that follow ``.to()`` and are saved, but are neither parameters nor buffers.

    So no optimiser, EMA copy or DDP bucket holds them, and a deep copy shares them.

    Attributes:
        tensors: The names of the tensors; the first one without elements says that there is nothing to save yet.
    """

    tensors: tuple[str, ...] = ()

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> Memory:
        super()._apply(fn, *args, **kwargs)
        for name in self.tensors:
            setattr(self, name, fn(getattr(self, name)))
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if getattr(self, self.tensors[0]).numel():
            # Copies: what is saved stays as it is while training goes on and writes in place.
            destination.update({prefix + name: getattr(self, name).clone() for name in self.tensors})

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> None:
        saved = {name: state_dict.pop(prefix + name, None) for name in self.tensors}
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if saved[self.tensors[0]] is None:
            return
        self.check_saved(saved)
        for name, value in saved.items():
            setattr(self, name, value.to(getattr(self, name), copy=True))
        self.restored()

    def check_saved(self, saved: dict[str, Tensor]) -> None:
        """Raise a ValueError if what a checkpoint holds does not fit."""

    def restored(self) -> None:
        """Find what else follows from the tensors, after they have been restored."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Memory:
        return self
