"""Route-constrained optimisation (Jin et al., ICCV 2019): the student follows checkpoints of its teacher's training."""

from __future__ import annotations

import bisect
import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner

from kddense.registry import HOOKS
from kddense.teachers import Teacher
from kddense.training.added_hook import AddedHook
from kddense.training.joint_optim import wrappers_in
from kddense.training.settings import stretched

from .anchors import Greedy, read_route
from .divergence import divergences

KEY = 'route'


@HOOKS.register_module()
class RouteHook(AddedHook):
    """Loads the anchor that is due into a teacher: on switching, and on resuming too. Precision and format stay.

    Args:
        route: A list of ``dict(checkpoint=…, start=…)`` in order, ``start`` in iterations or as a float a share of the
            training, or ``epoch=…`` in place of it; or the path of a JSON file with such a list. Or ``dict(folder=…)``, the
            work_dir of the teacher's training: with ``anchors=4`` checkpoints at equal intervals, the last one among them,
            at equal shares of the student's training; with ``how='greedy'`` every ``every`` (a quarter of the training) the
            first one is taken for which the student's divergence from the current anchor is less than ``delta`` (0.8) of
            that from it, measured on ``batches`` (4) batches of training images, or the last one if there is none.
        teacher: The name of the teacher.
        restart: Whether the schedule of the learning rate is run through anew, in a shorter time, for each anchor; in
            epoch-based trainings anchors must then begin with whole epochs.

    Raises:
        ValueError: If the route has no order, or one of its checkpoints is of another architecture.

    Example:
        >>> default_hooks = dict(route=dict(type='kddense.RouteHook', route=dict(folder='work_dirs/teacher', anchors=4)))
    """

    priority = 'ABOVE_NORMAL'

    def __init__(
        self, route: str | Sequence[Any] | Mapping[str, Any], teacher: str = 'teacher', restart: bool = False
    ) -> None:
        self.route = read_route(route)
        self.teacher = teacher
        self.restart = restart
        self._taken: list[tuple[int, str]] = []  # first iterations and checkpoints, as far as they are known
        self._resumed: list[tuple[int, str]] | None = None
        self._end = 0
        self._current = ''

    def before_train(self, runner: Runner) -> None:
        """Find out when anchors begin, and try each of them.

        Raises:
            ValueError: If there is no such teacher, a checkpoint does not fit, or one of a resumed route is gone.
        """
        teacher = self._teacher_of(runner)
        self._end = runner.max_iters
        loop = runner.train_loop
        length = len(loop.dataloader) if isinstance(loop, EpochBasedTrainLoop) else None
        if isinstance(self.route, Greedy):
            checkpoints: Sequence[str] = self.route.candidates
            self._taken = self._went(checkpoints) or [(0, checkpoints[0])]
            self._check_whole_epochs(length, [self._every(self.route)])
        else:
            self._taken = [(one.first_iteration(self._end, length), one.checkpoint) for one in self.route]
            checkpoints = [one.checkpoint for one in self.route]
            self._check_starts(length)
        for checkpoint in checkpoints:
            teacher.load(checkpoint)
        self._take(runner, self._due(max(runner.iter - 1, 0)))  # a switch that is due comes before the first step
        if self.restart and runner.iter == 0:
            self._restart(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Switch where another anchor begins."""
        if isinstance(self.route, Greedy):
            self._choose(runner, self.route)
        due = self._due(runner.iter)
        if due != self._current:
            self._take(runner, due)
            if self.restart:
                self._restart(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        if isinstance(self.route, Greedy):
            checkpoint[KEY] = [list(one) for one in self._taken]

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        if runner._resume and KEY in checkpoint:
            self._resumed = [(int(start), str(file)) for start, file in checkpoint[KEY]]

    def _went(self, candidates: Sequence[str]) -> list[tuple[int, str]]:
        """Return where a training went that is resumed, by names of files: their folder may have been moved."""
        files = {Path(one).name: one for one in candidates}
        lost = [file for _, file in self._resumed or () if Path(file).name not in files]
        if lost:
            raise ValueError(
                f"route.folder: '{Path(candidates[0]).parent}' lacks {Path(lost[0]).name}, where the resumed training went: "
                'put it back, or train anew without --resume'
            )
        return [(start, files[Path(file).name]) for start, file in self._resumed or ()]

    def _choose(self, runner: Runner, greedy: Greedy) -> None:
        """Choose the next anchor of a greedy route, if that is due in this iteration."""
        start, known = self._taken[-1]
        following = greedy.candidates[greedy.candidates.index(known) + 1 :]
        if not following or runner.iter in (0, start) or runner.iter % self._every(greedy):
            return
        teacher = self._teacher_of(runner)
        chosen = following[-1]
        found = divergences(runner, self.teacher, teacher, [known, *following], greedy.batches)
        own = next(found)
        for checkpoint, value in zip(following, found, strict=True):
            if own == value == 0:  # nothing compares now: the student stays with whom it has
                teacher.load(known)
                return
            if own < greedy.delta * value:
                chosen = checkpoint
                break
        self._taken.append((runner.iter, chosen))

    def _every(self, greedy: Greedy) -> int:
        return greedy.every if isinstance(greedy.every, int) else max(1, round(greedy.every * self._end))

    def _due(self, iteration: int) -> str:
        return self._taken[bisect.bisect_right([start for start, _ in self._taken], iteration) - 1][1]

    def _take(self, runner: Runner, checkpoint: str) -> None:
        print_log(f'the teacher {self.teacher} is {checkpoint} from iteration {runner.iter} on', logger='current')
        self._teacher_of(runner).load(checkpoint)
        self._current = checkpoint

    def _teacher_of(self, runner: Runner) -> Teacher:
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        teachers: Mapping[str, Teacher] = getattr(model, 'teachers', {})
        if self.teacher not in teachers:
            raise ValueError(f"the RouteHook finds no teacher '{self.teacher}', only {', '.join(teachers) or 'none'}")
        return teachers[self.teacher]

    def _check_starts(self, epoch_length: int | None) -> None:
        late = [start for start, _ in self._taken if start >= self._end]
        if late:
            raise ValueError(
                f'route: an anchor begins at iteration {late[0]}, after the training, which has {self._end}'
            )
        self._check_whole_epochs(epoch_length, [start for start, _ in self._taken])

    def _check_whole_epochs(self, epoch_length: int | None, starts: Sequence[int]) -> None:
        if self.restart and epoch_length and any(start % epoch_length for start in starts):
            raise ValueError(
                'restart: anchors must begin with whole epochs, or the schedule cannot be fitted between them'
            )

    def _restart(self, runner: Runner) -> None:
        """Put the learning rate where it began, and the whole schedule into the time of this anchor."""
        starts = [start for start, _ in self._taken]
        place = bisect.bisect_right(starts, runner.iter) - 1
        if isinstance(self.route, Greedy):
            last = self._taken[-1][1] == self.route.candidates[-1]
            end = self._end if last else min(self._end, starts[place] + self._every(self.route))
        else:
            end = starts[place + 1] if place + 1 < len(starts) else self._end
        config = copy.deepcopy(runner.cfg)
        loop = runner.train_loop
        unit = len(loop.dataloader) if isinstance(loop, EpochBasedTrainLoop) else 1
        schedulers = stretched(config, max(1, (end - starts[place]) // unit)).param_scheduler
        for wrapper in wrappers_in(runner.optim_wrapper):
            for group in wrapper.optimizer.param_groups:
                for name in [key for key in group if f'initial_{key}' in group]:
                    group[name] = group[f'initial_{name}']
        runner.param_schedulers = runner.build_param_scheduler(schedulers)
