"""The fixtures that all tests share: toy images, toy tasks, and a quick mmengine."""

from __future__ import annotations

import functools
import gc
import itertools
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kddense  # noqa: F401  (before mmcv.ops)

from .helpers.processes import StockScript
from .helpers.quick_python import QuickPython, quick_changes
from .helpers.toy_task import ToyTask, losses_of, make_toy_data

SHARING = ('tests/contracts/', 'tests/export/')  # folders of tests that share trained runs

_numbers = itertools.count()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several processes test, let each run of a file, or of a folder that shares trained runs, stay in one."""
    from xdist.scheduler import LoadScopeScheduling

    class ByTrainedRuns(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition('::')[0]
            return next((folder for folder in SHARING if file.startswith(folder)), file)

    return ByTrainedRuns(config, log)


@pytest.fixture(scope='session', autouse=True)
def one_thread():
    """Sums in a fixed order, so that runs can be compared bit for bit; and short jobs beside other jobs."""
    torch.set_num_threads(1)
    os.environ['OMP_NUM_THREADS'] = '1'


@pytest.fixture(scope='session', autouse=True)
def interruptible():
    """Ctrl-C reaches this process and those that it starts, also where tests run in the background of a shell."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def same_random_numbers():
    """Every test draws the same numbers, whichever ran before it in its process."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_run_before():
    """A distiller reads of its run in the newest message hub, which must not be that of an earlier test's training."""
    from mmengine.logging import MessageHub

    MessageHub.get_instance(f'test_{next(_numbers)}')


@pytest.fixture(scope='session', autouse=True)
def quick_collections() -> Iterator[None]:
    """No collection of garbage looks at the half a million objects that were there before the first test."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope='session', autouse=True)
def quick_libraries() -> Iterator[None]:
    """What takes mmengine and PyTorch long, and changes no result, is left out."""
    with pytest.MonkeyPatch.context() as patch:
        for change in quick_changes():
            patch.setattr(*change)
        yield


@pytest.fixture(scope='session')
def toy_data(tmp_path_factory) -> Path:
    """Eight images of two or three shapes: boxes and instances in ``boxes.json``, classes in ``masks/``, ``depth/``."""
    root = tmp_path_factory.mktemp('toy')
    make_toy_data(root)
    return root


@pytest.fixture(scope='session')
def detector(toy_data, tmp_path_factory) -> ToyTask:
    """Faster R-CNN, with Chen et al.'s objectives."""
    return ToyTask('detector', toy_data, tmp_path_factory.mktemp('detector'))


@pytest.fixture(scope='session')
def one_stage(toy_data, tmp_path_factory) -> ToyTask:
    """FCOS, with structured distillation, its discriminator included, soft targets and Chen et al.'s objectives."""
    return ToyTask('one_stage', toy_data, tmp_path_factory.mktemp('one_stage'))


@pytest.fixture(scope='session')
def segmentor(toy_data, tmp_path_factory) -> ToyTask:
    """PSPNet, with soft targets and a hint."""
    return ToyTask('segmentor', toy_data, tmp_path_factory.mktemp('segmentor'))


@pytest.fixture(scope='session')
def structured(toy_data, tmp_path_factory) -> ToyTask:
    """PSPNet, with all of structured distillation, its discriminator included, and a hint between channels."""
    return ToyTask('structured', toy_data, tmp_path_factory.mktemp('structured'))


@pytest.fixture(scope='session')
def depth(toy_data, tmp_path_factory) -> ToyTask:
    """A depth estimator, with structured distillation, its discriminator included, attentive imitation and hint."""
    return ToyTask('depth', toy_data, tmp_path_factory.mktemp('depth'))


@pytest.fixture(scope='session')
def query_detector(toy_data, tmp_path_factory) -> ToyTask:
    """Deformable DETR, with KD-DETR, all of DETRDistill and a hint."""
    return ToyTask('query_detector', toy_data, tmp_path_factory.mktemp('query_detector'))


@pytest.fixture(scope='session')
def mask_detector(toy_data, tmp_path_factory) -> ToyTask:
    """Mask R-CNN, with soft masks and a hint."""
    return ToyTask('mask_detector', toy_data, tmp_path_factory.mktemp('mask_detector'))


@pytest.fixture(scope='session')
def mask_segmentor(toy_data, tmp_path_factory) -> ToyTask:
    """mmseg's Mask2Former, with masks of queries and a hint."""
    return ToyTask('mask_segmentor', toy_data, tmp_path_factory.mktemp('mask_segmentor'))


@pytest.fixture(params=['detector', 'one_stage', 'segmentor', 'structured', 'depth'])
def task(request) -> ToyTask:
    """Each family."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope='session')
def python(tmp_path_factory) -> Iterator[str]:
    """An interpreter for scripts that need PyTorch, mmdet or mmseg, which has imported them before."""
    quick = QuickPython(tmp_path_factory.mktemp('python'))
    yield quick.program
    quick.close()


@pytest.fixture
def quick_processes(monkeypatch, python) -> None:
    """What this process starts with its own interpreter starts with that one."""
    monkeypatch.setattr('sys.executable', python)


@pytest.fixture(scope='session')
def stock_script(python) -> Callable[..., StockScript]:
    """Stock scripts by package and name: ``stock_script('mmdet', 'train.py').run(...)``.

    They run in processes that have imported OpenMMLab before; with ``python=sys.executable``, in those that have not.
    """
    return functools.partial(StockScript, python=python)


@pytest.fixture(scope='session')
def logged_losses():
    """The function that reads all losses out of a runner's message hub, or out of that of a checkpoint."""
    return losses_of


@pytest.fixture(scope='module')
def browser():
    """Headless Chromium, of Debian's packages chromium and chromium-driver; CI installs them."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    program, driver = (shutil.which(name) for name in ('chromium', 'chromedriver'))
    if not program or not driver:
        assert not os.environ.get('CI'), 'CI must have chromium and chromium-driver'
        pytest.skip('needs chromium and chromium-driver: apt-get install chromium chromium-driver')
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ('headless=new', 'no-sandbox', 'disable-gpu', 'no-first-run', 'disable-background-networking'):
        options.add_argument(f'--{flag}')
    chromium = webdriver.Chrome(options=options, service=Service(driver))
    yield chromium
    chromium.quit()
