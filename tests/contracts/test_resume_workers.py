"""Resuming with a data loader's workers is exact: those that outlive an epoch, and those of an iteration-based loop."""

from __future__ import annotations

import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

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


def state_and_losses(runner, logged_losses):
    return dict(runner.model.state_dict()), logged_losses(runner.message_hub)


@pytest.mark.parametrize('seed', [3, None], ids=['seeded', 'without a seed'])
@pytest.mark.parametrize(
    'name, options, checkpoint',
    [('detector', EPOCHS, 'epoch_1.pth'), ('segmentor', ITERATIONS, 'iter_4.pth')],
    ids=['persistent workers', 'iterations'],
)
def test_a_resumed_run_is_bit_for_bit_the_other(name, options, checkpoint, seed, request, tmp_path, logged_losses):
    task = request.getfixturevalue(name)
    soft = {key: value for key, value in task.objectives.items() if key in ('hint', 'soft')}
    whole = task.train(config_of(task, soft, seed=seed, **options), tmp_path / 'whole')
    config = config_of(task, soft, seed=seed, **options)
    config.resume, config.load_from = True, str(tmp_path / 'whole' / checkpoint)
    resumed = task.train(config, tmp_path / 'resumed')
    weights, losses = state_and_losses(resumed, logged_losses)
    expected, curve = state_and_losses(whole, logged_losses)
    assert len(curve['loss']) == 12
    assert losses == curve
    assert_equal(expected, weights)
    last = load_checkpoint(tmp_path / 'whole' / f'{checkpoint.partition("_")[0]}_{3 if name == "detector" else 12}.pth')
    again = load_checkpoint(next((tmp_path / 'resumed').glob('*_3.pth' if name == 'detector' else '*_12.pth')))
    assert_equal(last['random_state'], again['random_state'])


def test_the_hook_changes_no_number_of_a_run_with_persistent_workers(detector, tmp_path, logged_losses):
    with_hook = detector.train(config_of(detector, {}, train_cfg__max_epochs=2, **EPOCHS), tmp_path / 'with')
    without = detector.train(config_of(detector, {}, False, train_cfg__max_epochs=2, **EPOCHS), tmp_path / 'without')
    assert logged_losses(with_hook.message_hub) == logged_losses(without.message_hub)


@pytest.fixture
def breaks_off():
    """A hook for configs that saves as Ctrl-C does, and breaks off, after an iteration."""

    @HOOKS.register_module(force=True)
    class BreaksOff(Hook):
        priority = 'LOWEST'

        def __init__(self, after):
            self.after = after

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter + 1 == self.after:
                hook = next(one for one in runner.hooks if hasattr(one, 'save_interrupted'))
                hook.save_interrupted(runner, self.after)
                raise KeyboardInterrupt

    yield
    HOOKS._module_dict.pop('BreaksOff')


@pytest.mark.parametrize('options', [{}, EPOCHS], ids=['without workers', 'persistent workers'])
@pytest.mark.parametrize('after', [6, 7])
def test_an_epoch_goes_on_in_its_middle(options, after, detector, tmp_path, logged_losses, breaks_off):
    """Also to the end of the next, where each worker must be where it was, whichever batches it made before."""
    soft = dict(hint=detector.objectives['hint'])
    whole = detector.train(config_of(detector, soft, **options), tmp_path / 'whole')
    broken = config_of(detector, soft, **options)
    broken.custom_hooks.append(dict(type='BreaksOff', after=after))
    with pytest.raises(KeyboardInterrupt):
        detector.train(broken, tmp_path / 'run')
    assert (tmp_path / 'run' / 'last_checkpoint').read_text().endswith('interrupted.pth')

    config = config_of(detector, soft, **options)
    config.resume = True
    resumed = detector.train(config, tmp_path / 'run')
    assert logged_losses(resumed.message_hub) == logged_losses(whole.message_hub)
    assert_equal(dict(whole.model.state_dict()), dict(resumed.model.state_dict()))
    assert sorted(path.name for path in (tmp_path / 'run').glob('*.pth')) == [f'epoch_{one}.pth' for one in (1, 2, 3)]


def test_what_cannot_be_restored_is_told_at_the_start(detector, tmp_path, caplog, monkeypatch):
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
