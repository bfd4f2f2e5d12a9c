"""Resuming with a data loader's workers is exact: those that outlive an epoch, and those of an iteration-based loop."""

from __future__ import annotations

import os
import signal

import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from kddense.apps.train import train
from kddense.compat import load_checkpoint

from .test_resume import assert_equal

EPOCHS = dict(train_dataloader__num_workers=2, train_dataloader__persistent_workers=True)
ITERATIONS = dict(train_dataloader__num_workers=2)
NO_VALIDATION = ('val_cfg', 'val_dataloader', 'val_evaluator')


def config_of(task, objectives=None, hook=True, seed=3, **options):
    """Return a short training with stock loaders, and validation left out."""
    config = task.distilled(objectives, **options)
    if task.package == 'mmdet':
        config.train_dataloader.batch_sampler = dict(type='AspectRatioBatchSampler')
    for key in NO_VALIDATION:
        config[key] = None
    config.custom_hooks = [dict(type='kddense.RandomStateHook')] if hook else []
    config.randomness = dict(seed=seed)
    return config


def soft(task):
    """Return objectives that cost little."""
    return {key: value for key, value in task.objectives.items() if key in ('hint', 'soft')}


def state_and_losses(runner, logged_losses):
    return dict(runner.model.state_dict()), logged_losses(runner.message_hub)


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
    """The function that trains without interruption, once with each options: returns the runner and its folder."""
    runs = {}

    def run(task, options, seed=3):
        key = (task.name, str(options), seed)
        if key not in runs:
            folder = tmp_path_factory.mktemp('whole')
            runs[key] = task.train(config_of(task, soft(task), seed=seed, **options), folder), folder
        return runs[key]

    return run


@pytest.mark.parametrize('seed', [3, None], ids=['seeded', 'without a seed'])
@pytest.mark.parametrize(
    'name, options, checkpoint',
    [('detector', EPOCHS, 'epoch_1.pth'), ('segmentor', ITERATIONS, 'iter_4.pth')],
    ids=['persistent workers', 'iterations'],
)
def test_a_resumed_run_is_bit_for_bit_the_other(
    name, options, checkpoint, seed, request, tmp_path, logged_losses, uninterrupted
):
    task = request.getfixturevalue(name)
    whole, folder = uninterrupted(task, options, seed)
    config = config_of(task, soft(task), seed=seed, **options)
    config.resume, config.load_from = True, str(folder / checkpoint)
    resumed = task.train(config, tmp_path / 'resumed')
    weights, losses = state_and_losses(resumed, logged_losses)
    expected, curve = state_and_losses(whole, logged_losses)
    assert len(curve['loss']) == 12
    assert losses == curve
    assert_equal(expected, weights)
    last = load_checkpoint(folder / f'{checkpoint.partition("_")[0]}_{3 if name == "detector" else 12}.pth')
    again = load_checkpoint(next((tmp_path / 'resumed').glob('*_3.pth' if name == 'detector' else '*_12.pth')))
    assert_equal(last['random_state'], again['random_state'])


def test_the_hook_changes_no_number_of_a_run_with_persistent_workers(detector, tmp_path, logged_losses, uninterrupted):
    with_hook, _ = uninterrupted(detector, EPOCHS)
    without = detector.train(config_of(detector, soft(detector), hook=False, **EPOCHS), tmp_path)
    assert logged_losses(with_hook.message_hub) == logged_losses(without.message_hub)


@HOOKS.register_module(force=True)
class PressesCtrlC(Hook):
    """A hook for configs that interrupts its own process within an iteration."""

    def __init__(self, at):
        self.at = at

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.at:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    'name, options, at, last',
    [
        ('detector', {}, 6, 'epoch_3.pth'),
        ('detector', EPOCHS, 7, 'epoch_3.pth'),
        ('segmentor', ITERATIONS, 6, 'iter_12.pth'),
    ],
    ids=['without workers', 'persistent workers', 'iterations'],
)
def test_ctrl_c_loses_nothing(name, options, at, last, request, tmp_path, logged_losses, capfd, uninterrupted):
    """Nor does an epoch that goes on in its middle: to the end of the next, where each worker must be where it was."""
    task = request.getfixturevalue(name)
    whole, _ = uninterrupted(task, options)
    config = config_of(task, soft(task), **options)
    config.work_dir, config.experiment_name, config.log_level = str(tmp_path / 'run'), f'{name}_{at}', 'ERROR'
    config.visualizer.name = f'{name}_{at}'
    broken = config.copy()
    broken.custom_hooks = [*config.custom_hooks, dict(type='PressesCtrlC', at=at)]
    with pytest.raises(KeyboardInterrupt):
        train(broken)
    said, asked = capfd.readouterr()
    interrupted = tmp_path / 'run' / 'interrupted.pth'
    assert said.strip().endswith(f'interrupted: --resume goes on from {interrupted}')
    assert 'the training ends after this step with a checkpoint' in asked
    assert load_checkpoint(interrupted)['meta']['iter'] == at
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    resumed = task.train(config_of(task, soft(task), resume=True, **options), tmp_path / 'run')
    assert logged_losses(resumed.message_hub) == logged_losses(whole.message_hub)
    assert_equal(dict(whole.model.state_dict()), dict(resumed.model.state_dict()))
    assert (tmp_path / 'run' / last).exists()
    assert not interrupted.exists()


def test_what_cannot_be_restored_is_told_at_the_start(detector, tmp_path, monkeypatch):
    from kddense.training import random_state_hook

    told = []
    monkeypatch.setattr(random_state_hook, 'print_log', lambda text, *_: told.append(text))
    monkeypatch.setattr(
        'kddense.training.loader_workers.TellingCollate.__call__', lambda self, samples: self.collate(samples)
    )
    detector.train(config_of(detector, {}, train_cfg__max_epochs=1, **EPOCHS), tmp_path)
    assert [text.partition(':')[2] for text in told] == [
        ' persistent workers whose batches are no dicts: resuming this run will not be bit for bit'
    ]
