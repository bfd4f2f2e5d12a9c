"""Checkpoints of strategies whose processes hold parts: whole files, as of a run in one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine._strategy import SingleDeviceStrategy
from mmengine.dist import is_main_process

from kddense.files import ASIDE, put_in_place

STEP = 'step'  # in an optimiser's state: a count, which is no part of a weight


class WholeCheckpoints:
    """Makes a strategy of mmengine's write one whole file and read it again; goes before it among the parents."""

    _gathered: tuple[dict[str, Any], dict[str, Any]] | None = None

    load_checkpoint = SingleDeviceStrategy.load_checkpoint
    resume = SingleDeviceStrategy.resume

    def save_checkpoint(self: Any, filename: str, *, save_optimizer: bool = True, **kwargs: Any) -> None:
        """Write one whole file; all processes take part, the first one writes.

        Args:
            filename: Where to.
            save_optimizer: Whether the optimiser's state is saved too.
            **kwargs: See mmengine's strategies.
        """
        self._gathered = self._gather_model(), self._gather_optimisers() if save_optimizer else {}
        if is_main_process():
            is_local = '://' not in filename
            written = f'{filename}{ASIDE}' if is_local else filename
            SingleDeviceStrategy.save_checkpoint(self, written, save_optimizer=save_optimizer, **kwargs)
            if is_local:
                put_in_place(Path(written), Path(filename))
        self._gathered = None

    def model_state_dict(self) -> dict[str, Any]:
        """Return what :meth:`save_checkpoint` gathered of the model."""
        assert self._gathered is not None
        return self._gathered[0]

    def optim_state_dict(self) -> dict[str, Any]:
        """Return what :meth:`save_checkpoint` gathered of the optimisers."""
        assert self._gathered is not None
        return self._gathered[1]

    def _gather_model(self) -> dict[str, Any]:
        """Return the model's whole state, on the CPU; all processes take part."""
        raise NotImplementedError

    def _gather_optimisers(self) -> dict[str, Any]:
        """Return the whole state of the optimisers, on the CPU; all processes take part."""
        raise NotImplementedError
