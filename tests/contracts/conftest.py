"""Trainings that the tests of several contracts look at."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kddense.compat import load_checkpoint

from ..helpers.processes import PATIENCE, StockScript
from ..helpers.toy_task import ToyTask

FAMILIES = (
    'detector',
    'one_stage',
    'segmentor',
    'structured',
    'depth',
    'query_detector',
    'mask_detector',
    'mask_segmentor',
)


@dataclass(frozen=True)
class Story:
    """One training told twice: without interruption in this process; killed and resumed through stock scripts.

    Attributes:
        task: What was trained.
        runner: The runner of the uninterrupted training.
        whole: Its last checkpoint.
        resumed: The last checkpoint of the other, as a file.
        folder: The working directory of the other.
    """

    task: Any
    runner: Any
    whole: dict
    resumed: Path
    folder: Path


def _tell(task, config, folder: Path, stock_script, death: int, survivor: str, last: str) -> Story:
    """Train, and again: killed after iteration ``death``, with ``survivor`` the last checkpoint, then resumed."""
    from mmengine.config import Config

    config.dump(folder / 'whole.py')  # dumping sorts keys, and losses are summed in their order
    broken, resumed = config.copy(), config.copy()
    broken.custom_imports = dict(imports=['kddense', 'sudden_death'])
    broken.custom_hooks = [*config.custom_hooks, dict(type='SuddenDeath', iteration=death)]
    resumed.randomness = dict(seed=None)  # what the checkpoint remembers counts
    broken.dump(folder / 'broken.py')
    resumed.dump(folder / 'resumed.py')

    train = stock_script(task.package, 'train.py')
    killed = train.start(folder / 'broken.py', '--work-dir', folder / 'run', cwd=folder)
    output, _ = killed.communicate(timeout=PATIENCE)
    assert killed.returncode == -signal.SIGKILL, output
    assert (folder / 'run' / 'last_checkpoint').read_text().endswith(survivor)
    assert not (folder / 'run' / last).exists()
    if task.name in ('detector', 'segmentor'):  # once for each library, nothing is imported before the script begins
        train = StockScript(task.package, 'train.py')
    train.run(folder / 'resumed.py', '--work-dir', folder / 'run', '--resume', cwd=folder)

    runner = task.train(Config.fromfile(folder / 'whole.py'), folder / 'whole')
    whole = load_checkpoint(folder / 'whole' / last)
    return Story(task, runner, whole, folder / 'run' / last, folder)


def _story(task, tmp_path_factory, stock_script, average: bool = False) -> Story:
    """Tell it of three epochs, or of twelve iterations whose validations and checkpoints do not coincide."""
    by_epoch = task.package == 'mmdet'
    config = task.distilled() if by_epoch else task.distilled(train_cfg__val_interval=3)
    ema = [dict(type='EMAHook', momentum=0.1)] if average else []
    config.custom_hooks = [*ema, dict(type='kddense.RandomStateHook')]
    folder = tmp_path_factory.mktemp(f'{task.name}_story')
    killed_and_left = (6, 'epoch_1.pth', 'epoch_3.pth') if by_epoch else (7, 'iter_4.pth', 'iter_12.pth')
    return _tell(task, config, folder, stock_script, *killed_and_left)


@pytest.fixture(scope='session')
def detector_story(detector, tmp_path_factory, stock_script) -> Story:
    """Three epochs of Faster R-CNN with all of Chen's, an EMA and validations; killed in the middle of the second."""
    return _story(detector, tmp_path_factory, stock_script, average=True)


@pytest.fixture(scope='session')
def one_stage_story(one_stage, tmp_path_factory, stock_script) -> Story:
    """Three epochs of FCOS with all of its objectives and validations; killed in the middle of the second."""
    return _story(one_stage, tmp_path_factory, stock_script)


@pytest.fixture(scope='session')
def segmentor_story(segmentor, tmp_path_factory, stock_script) -> Story:
    """Twelve iterations of PSPNet with dropout; validations and checkpoints do not coincide; killed after seven."""
    return _story(segmentor, tmp_path_factory, stock_script)


@pytest.fixture(scope='session')
def structured_story(structured, tmp_path_factory, stock_script) -> Story:
    """The same with structured distillation and an EMA; killed while discriminator and student are in the middle of it."""
    return _story(structured, tmp_path_factory, stock_script, average=True)


@pytest.fixture(scope='session')
def depth_story(depth, tmp_path_factory, stock_script) -> Story:
    """Twelve iterations of a depth estimator with all of its objectives; killed after seven."""
    return _story(depth, tmp_path_factory, stock_script)


@pytest.fixture(scope='session')
def query_detector_story(query_detector, tmp_path_factory, stock_script) -> Story:
    """Three epochs of Deformable DETR with KD-DETR, DETRDistill, an EMA and validations; killed in the second."""
    return _story(query_detector, tmp_path_factory, stock_script, average=True)


@pytest.fixture(scope='session')
def mask_detector_story(mask_detector, tmp_path_factory, stock_script) -> Story:
    """Three epochs of Mask R-CNN with soft masks, an EMA and validations; killed in the middle of the second."""
    return _story(mask_detector, tmp_path_factory, stock_script, average=True)


@pytest.fixture(scope='session')
def mask_segmentor_story(mask_segmentor, tmp_path_factory, stock_script) -> Story:
    """Twelve iterations of Mask2Former with masks of queries and an EMA; killed after seven."""
    return _story(mask_segmentor, tmp_path_factory, stock_script, average=True)


@pytest.fixture(params=FAMILIES)
def story(request) -> Story:
    """Each of them."""
    return request.getfixturevalue(f'{request.param}_story')


@pytest.fixture(params=FAMILIES)
def task(request) -> ToyTask:
    """Each family; elsewhere those with queries and with masks are left out."""
    return request.getfixturevalue(request.param)
