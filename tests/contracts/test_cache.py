"""A cache changes nothing: over epochs, with workers, after a kill, in two processes, the losses are those of asking."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from mmengine.config import Config

from kddense.compat import load_checkpoint

from ..helpers.cached import on_variants, with_cache
from ..helpers.processes import PATIENCE
from ..helpers.toy_task import losses_of
from ..helpers.two_processes import in_two_processes
from .test_resume import assert_equal

TASKS = ('detector', 'one_stage', 'segmentor', 'structured', 'depth')


WORKERS = dict(train_dataloader__num_workers=2, train_dataloader__persistent_workers=True)


def config_of(task, **options):
    """Return three epochs, or as many iterations; the third repeats the variants of the first."""
    config = on_variants(task.distilled(**options), variants=2)
    config.custom_hooks = [dict(type='kddense.RandomStateHook')]
    return config


@pytest.fixture(scope='module')
def online(tmp_path_factory):
    """The function that trains with a teacher that is asked each time, once for each task."""
    runs = {}

    def run(task, **options):
        key = (task.name, *options)
        if key not in runs:
            runs[key] = task.train(config_of(task, **options), tmp_path_factory.mktemp('online'))
        return runs[key]

    return run


def assert_same(found, expected):
    losses = losses_of(expected.message_hub)
    assert len(losses['loss']) == 12
    assert losses_of(found.message_hub) == losses
    assert_equal(dict(expected.model.state_dict()), dict(found.model.state_dict()))


@pytest.mark.parametrize('name', TASKS)
def test_over_epochs(name, request, tmp_path, online):
    task = request.getfixturevalue(name)
    expected = online(task)
    for turn, (asked, read) in enumerate([(8, 4), (0, 12)]):
        runner = task.train(with_cache(config_of(task), tmp_path / 'cache'), tmp_path / str(turn))
        assert_same(runner, expected)
        teacher = runner.model.teachers['teacher']
        assert (teacher.asked, teacher.read) == (asked, read)
        teacher.store.flush()


@pytest.mark.parametrize('name', ['detector', 'segmentor'])
def test_with_workers(name, request, tmp_path, online):
    task = request.getfixturevalue(name)
    for turn in range(2):
        runner = task.train(with_cache(config_of(task, **WORKERS), tmp_path / 'cache'), tmp_path / str(turn))
        assert_same(runner, online(task, **WORKERS))
        assert runner.model.teachers['teacher'].asked == (8, 0)[turn]
        runner.model.teachers['teacher'].store.flush()


@pytest.mark.parametrize(
    'name, death, last', [('detector', 6, 'epoch_3.pth'), ('segmentor', 7, 'iter_12.pth')], ids=['epochs', 'iterations']
)
def test_killed_and_resumed(name, death, last, request, tmp_path, online, stock_script):
    task = request.getfixturevalue(name)
    config = with_cache(config_of(task), tmp_path / 'cache')
    config.dump(tmp_path / 'config.py')
    broken = config.copy()
    broken.custom_imports = dict(imports=['kddense', 'sudden_death'])
    broken.custom_hooks = [*config.custom_hooks, dict(type='SuddenDeath', iteration=death)]
    broken.dump(tmp_path / 'broken.py')
    train = stock_script(task.package, 'train.py')
    killed = train.start(tmp_path / 'broken.py', '--work-dir', tmp_path / 'run', cwd=tmp_path)
    output, _ = killed.communicate(timeout=PATIENCE)
    assert killed.returncode == -signal.SIGKILL, output
    assert (tmp_path / 'run' / 'last_checkpoint').exists()
    train.run(tmp_path / 'config.py', '--work-dir', tmp_path / 'run', '--resume', cwd=tmp_path)

    from_file = task.train(Config.fromfile(_online(task, tmp_path)), tmp_path / 'whole')  # dumping sorts the losses
    whole, resumed = from_file.model.state_dict(), load_checkpoint(tmp_path / 'run' / last)
    assert_equal(dict(whole), dict(resumed['state_dict']))
    assert losses_of(resumed['message_hub']) == losses_of(from_file.message_hub)


def _online(task, folder):
    config_of(task).dump(folder / 'online.py')
    return folder / 'online.py'


@pytest.mark.parametrize('name', ['detector', 'segmentor'])
def test_two_processes(name, request, tmp_path):
    """Each fills the folder with its half; the second time, each reads what the other wrote too."""
    task = request.getfixturevalue(name)

    def train(folder):
        def run(rank):
            config = config_of(task, launcher='pytorch')  # which finds the processes connected
            config.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None)  # no GPU
            os.environ['LOCAL_RANK'] = str(rank)
            if folder is not None:
                config = with_cache(config, folder)
            runner = task.train(config, tmp_path / f'run_{rank}')
            teacher = runner.model.module.teachers['teacher']
            if folder is not None:
                teacher.store.flush()
            losses = {key: torch.tensor(values) for key, values in losses_of(runner.message_hub).items()}
            return dict(losses, asked=torch.tensor(getattr(teacher, 'asked', 0)))

        own = tmp_path / f'processes_{len(list(tmp_path.iterdir()))}'
        own.mkdir()
        return in_two_processes(run, own)

    online, cold, warm = train(None), train(tmp_path / 'cache'), train(tmp_path / 'cache')
    for rank in range(2):
        asked = [int(found[rank].pop('asked')) for found in (online, cold, warm)]
        assert asked[0] == asked[2] == 0 < asked[1]
        assert_equal(online[rank], cold[rank])
        assert_equal(online[rank], warm[rank])
    assert len(list((tmp_path / 'cache').glob('*.safetensors'))) == 2
