"""A hook for configs: the process is gone after an iteration, as if the machine had lost power, but not a second time."""

import os
import signal
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class DieOnce(Hook):
    """Kills its own process with SIGKILL after an iteration, if DIE is set and the file ``died`` not in its work_dir."""

    priority = 'LOWEST'

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        marker = Path(runner.work_dir) / 'died'
        if 'DIE' in os.environ and runner.iter + 1 == self.iteration and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
