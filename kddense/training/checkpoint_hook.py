"""mmengine's hook for checkpoints, such that a kill while it saves costs nothing."""

from __future__ import annotations

import re
import shutil
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner

from kddense.files import BACKEND, write_whole
from kddense.random_state import forked_random_state

from .checkpoints import INTERRUPTED, POINTER, find_checkpoint, named_checkpoint
from .replaced import check_optimisers
from .strategies import check_strategy

POSITION = 'batches_done'  # in a checkpoint's meta: how many batches of its epoch were trained on


# Importing kddense puts it in the place of mmengine's own, so that every config that distils has it, in every script.
@MMENGINE_HOOKS.register_module(name='CheckpointHook', force=True)
class WholeCheckpointHook(CheckpointHook):
    """:class:`mmengine.hooks.CheckpointHook` with the same options, the same files, and nothing lost when the process dies.

    - Files are written aside, synced and renamed, ``last_checkpoint`` too; old checkpoints are removed after that.
    - ``resume`` without a file goes on from the last whole checkpoint, and says which that is.
    - A checkpoint from the middle of an epoch goes on in the middle of that epoch: the batches before are drawn again and
      passed over.
    - What a checkpoint says of itself is taken as data: mmengine would run the text ``config`` in its meta, and remove
      whatever file it names as the best so far.

    As it is in every run that distils, it also looks at the config's optimisers; see :func:`check_optimisers`.

    With a remote ``out_dir`` (``s3://…``) files are written as mmengine does.
    """

    backend_args: dict | None
    keep_ckpt_ids: deque[int]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._batches_done = self._to_skip = 0

    @property
    def _is_local(self) -> bool:
        return isinstance(self.file_backend, LocalBackend)

    def before_run(self, runner: Runner) -> None:
        """Check what the config says of optimisers, and choose what to resume from before the runner looks for it."""
        check_optimisers(runner.cfg)
        check_strategy(runner)
        is_remote = '://' in str(self.out_dir)
        if not runner._resume or runner._load_from is not None or is_remote:
            return
        work_dir = Path(runner.work_dir)
        folder = work_dir if self.out_dir is None else Path(self.out_dir, work_dir.name)
        prefix, _, suffix = map(re.escape, self.filename_tmpl.partition('{}'))
        named, found = named_checkpoint(work_dir), find_checkpoint(work_dir, folder, rf'{prefix}(\d+){suffix}')
        if found is None:
            print_log(f'{work_dir} holds no whole checkpoint to resume: the training begins anew', 'current', 30)
            runner._resume = False
            return
        if found.name != Path(named).name:
            fault = f'names {named}, which is absent or cut off' if named else 'is empty or absent'
            print_log(f'{work_dir / POINTER} {fault}: resuming from {found}, the last that is whole', 'current', 30)
        runner._load_from = str(found)

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        if self._is_local and self.file_client_args is None and self.backend_args is None:
            self.backend_args = dict(backend=BACKEND)
            self.file_backend = get_file_backend(self.out_dir, backend_args=self.backend_args)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take out of a checkpoint what mmengine would run or remove; note where in the epoch it was saved."""
        if not runner._resume:
            return
        meta = checkpoint.get('meta') or {}
        meta.pop('config', None)
        info = checkpoint.get('message_hub', {}).get('runtime_info', {})
        if 'keep_ckpt_ids' in info:
            info['keep_ckpt_ids'] = [one for one in info['keep_ckpt_ids'] if isinstance(one, int)]
        self._to_skip = meta.get(POSITION, 0) if isinstance(runner.train_loop, EpochBasedTrainLoop) else 0

    def before_train_epoch(self, runner: Runner) -> None:
        count, self._to_skip = self._to_skip, 0
        if count > 0:
            _begin_behind(count, runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._batches_done = batch_idx + 1
        super().after_train_iter(runner, batch_idx, data_batch, outputs)

    def after_train_epoch(self, runner: Runner) -> None:
        self._batches_done = 0
        vars(runner.train_loop).pop('run_iter', None)
        super().after_train_epoch(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['meta'][POSITION] = self._batches_done

    def save_interrupted(self, runner: Runner, iteration: int) -> Path:
        """Save a checkpoint out of turn, from which the training can go on.

        Args:
            runner: The runner, between two iterations.
            iteration: How many iterations are done.

        Returns:
            The file.
        """
        self._save_as(runner, INTERRUPTED, dict(epoch=runner.epoch, iter=iteration))
        return Path(self.out_dir, INTERRUPTED)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        if not self._is_local:
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        kept = list(self.keep_ckpt_ids) if self.max_keep_ckpts > 0 else []
        if self.max_keep_ckpts > 0 and step not in kept[-1:]:
            kept.append(step)
            # One too many: if the process dies before that is removed, the resumed run removes it.
            runner.message_hub.update_info('keep_ckpt_ids', kept)
            self.keep_ckpt_ids = deque(kept, self.max_keep_ckpts)
        self._save_as(runner, self.filename_tmpl.format(step), meta)
        outdated = [self.filename_tmpl.format(one) for one in kept if one not in self.keep_ckpt_ids]
        self._remove(Path(self.out_dir, name) for name in [*outdated, INTERRUPTED])

    def _save_as(self, runner: Runner, name: str, meta: dict) -> None:
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            write_whole(Path(runner.work_dir, POINTER), str(self.last_ckpt).encode())

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self.save_best or not self._is_local:
            super()._save_best_checkpoint(runner, metrics)
            return
        backend, self.file_backend = self.file_backend, _RemovesNothing()
        try:
            super()._save_best_checkpoint(runner, metrics)
            outdated = {Path(path) for path in self.file_backend.asked_to_remove}
        finally:
            self.file_backend = backend
        self._remove(outdated - {Path(path) for path in self._best_paths() if path})

    def _best_paths(self) -> list[str | None]:
        if len(self.key_indicators) == 1:
            return [self.best_ckpt_path]
        return list(self.best_ckpt_path_dict.values())

    def _remove(self, paths: Iterable[Path]) -> None:
        """Remove checkpoints of this run; a path elsewhere, which only a strange checkpoint can name, is left alone."""
        if not is_main_process():
            return
        for path in paths:
            if path.parent.resolve() != Path(self.out_dir).resolve() or path.suffix != '.pth':
                print_log(f'{path} is no checkpoint of this run and is not removed', 'current', 30)
            elif path.is_dir():  # of DeepSpeed
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


class _RemovesNothing(LocalBackend):
    """A backend that notes what it is asked to remove."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_to_remove: list[str] = []

    def remove(self, filepath: str | Path) -> None:
        self.asked_to_remove.append(str(filepath))

    rmtree = remove


def _begin_behind(count: int, runner: Runner) -> None:
    """Let the next epoch of a runner begin behind its first ``count`` batches, with their numbers and random numbers."""
    loop: Any = runner.train_loop
    loader, run_iter = loop.dataloader, loop.run_iter

    def once(number: int, batch: Any) -> None:
        run_iter(number + count, batch)

    def skipping() -> Iterator[Any]:
        loop.dataloader = loader
        with forked_random_state():
            batches = iter(loader)
            for _ in range(count):
                runner.call_hook('after_skipped_batch', data_batch=next(batches, None))
        yield from batches

    loop.dataloader = skipping()
    loop.run_iter = once
