"""The last validation of a run that was killed in it."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner


class LastValidationHook(Hook):
    """Validates when a run goes on from its last checkpoint, and no step is left: mmengine's own loops would end without.

    Its priority is above that of hooks which close what they write to at the end.
    """

    priority = 'ABOVE_NORMAL'

    def before_train(self, runner: Runner) -> None:
        """Note where the run begins."""
        self._begins_at = runner.iter

    def after_train(self, runner: Runner) -> None:
        """Validate, if no step was taken."""
        if runner.iter == self._begins_at and runner.val_loop is not None:
            runner.val_loop.run()
