"""Short trainings to export, and what tests look at of an export."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from kddense.compat import load_checkpoint
from kddense.export import PlainConfig
from kddense.training.runs import read_run


@dataclass(frozen=True)
class TrainedRun:
    """A short training.

    Attributes:
        task: The toy task.
        folder: Its work_dir.
        runner: The runner at the end of it.
        checkpoint: Its last checkpoint.
    """

    task: Any
    folder: Path
    runner: Any
    checkpoint: Path

    @property
    def student(self):
        return self.runner.model.student.eval()

    def predict(self, image: Path):
        """Return what the distilled student says of an image, by mmdet's or mmseg's own inference."""
        if self.task.package == 'mmdet':
            from mmdet.apis import inference_detector as infer
        else:
            from mmseg.apis import inference_model as infer
        model = self.student
        model.cfg = self.task.plain()
        model.cfg.setdefault('test_pipeline', model.cfg.test_dataloader.dataset.pipeline)
        with DefaultScope.overwrite_default_scope(self.task.package):
            sample = infer(model, str(image))
        return sample.pred_instances if self.task.package == 'mmdet' else sample


def train(task, folder: Path, *hooks: dict, **options: Any) -> TrainedRun:
    config = task.distilled(**options)
    config.custom_hooks = [*hooks, dict(type='kddense.RandomStateHook')]
    config.dump(folder / 'distilled.py')
    runner = task.train(Config.fromfile(folder / 'distilled.py'), folder / 'run')
    return TrainedRun(task, folder / 'run', runner, read_run(folder / 'run', 'run').checkpoint)


@functools.cache
def _read(task) -> tuple[Config, Config]:
    return task.plain(), task.distilled()


def plain(task, **options: Any) -> Config:
    """Return the config of the plain student; read once, for that takes a second."""
    config = copy.deepcopy(_read(task)[0])
    config.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
    return config


def distilled(task) -> Config:
    return copy.deepcopy(_read(task)[1])


def plain_settings(task) -> dict:
    return PlainConfig.of(plain(task)).settings


def run_settings(run: TrainedRun) -> dict:
    """Return the settings of the plain student with what ToyTask set for this run."""
    settings = plain_settings(run.task)
    visualizer = dict(settings['visualizer'], name=run.runner.cfg.visualizer.name)
    return dict(settings, log_level='ERROR', visualizer=visualizer)


def weights(path: Path) -> dict:
    return load_checkpoint(path)['state_dict']


def assert_same_weights(found, expected):
    assert list(found) == list(expected)
    assert all(torch.equal(value, expected[key]) for key, value in found.items())


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
