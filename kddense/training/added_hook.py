"""What hooks have in common that a config adds to those of the student."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from kddense.registry import SCOPE

from .replaced import replaced_hooks
from .strategies import refuse_parts


class AddedHook(Hook):
    """Stops a run whose ``custom_hooks`` were written for kddense alone, and replaced the student's.

    mmengine replaces lists and merges dicts: in ``default_hooks``, under a name of its own, a hook replaces nothing.

    Attributes:
        works_sharded: Whether it can do its work where each process has a part of every weight.
    """

    works_sharded = True

    def before_run(self, runner: Runner) -> None:
        """Check what stands beside this hook.

        Raises:
            ValueError: If hooks of the student are gone, or this one cannot work under the run's strategy.
        """
        if not self.works_sharded:
            refuse_parts(self, runner.model)
        gone = replaced_hooks(runner.cfg)
        if gone:
            kind = f'{SCOPE}{type(self).__name__}'
            raise ValueError(
                f'custom_hooks: this list replaces that of the base config, and {", ".join(gone)} with it: write '
                f"default_hooks = dict(added=dict(type='{kind}', …)), which replaces nothing, or list them all"
            )


def student_of(model: Any) -> nn.Module:
    """Return the student of a run: that of a distiller, or the model itself; of a wrapped model too."""
    inner = model.module if is_model_wrapper(model) else model
    return getattr(inner, 'student', inner)
