"""A loss that is NaN or infinite is named, with the iteration in which it first was, and the step can be taken again."""

from __future__ import annotations

import copy
import math
import os

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS

from kddense import Objective
from kddense.apps import replay as replay_app
from kddense.distiller import kept_step
from kddense.distiller.finite import FiniteCheck
from kddense.distiller.kept_step import as_data, from_data, read_step

NAN, INFINITE = float('nan'), float('inf')


def losses(**values):
    terms = {f'distill.{name}.loss': torch.tensor(value) for name, value in values.items()}
    return {'loss_cls': torch.tensor(NAN), **terms}  # the student's own are mmengine's business


class Late:
    """In place of a GPU's event: values have arrived when the test says so."""

    arrived = False

    def record(self):
        pass

    def query(self):
        return Late.arrived

    def synchronize(self):
        pass


@pytest.fixture
def late(monkeypatch):
    """A check whose values arrive late, as they do from a GPU."""
    monkeypatch.setattr('kddense.distiller.finite.waits', lambda device: True)
    monkeypatch.setattr(torch.cuda, 'Event', Late)
    monkeypatch.setattr(Late, 'arrived', False)
    return FiniteCheck()


@pytest.mark.parametrize('bad', [NAN, INFINITE, -INFINITE])
def test_on_a_cpu_it_is_told_at_once(bad):
    check = FiniteCheck()
    check.note(losses(a=1.0, b=2.0), 0)
    with pytest.raises(FloatingPointError, match=r'^distill\.b\.loss is NaN or infinite at iteration 1\. Lower'):
        check.note(losses(a=1.0, b=bad), 1)


def test_on_a_gpu_nothing_waits_for_a_step_but_two_later_it_is_told(late):
    late.note(losses(a=1.0, b=NAN), 1)
    late.note(losses(a=INFINITE, b=NAN), 2)
    with pytest.raises(FloatingPointError, match=r'^distill\.b\.loss is NaN or infinite at iteration 1\.'):
        late.note(losses(a=1.0, b=1.0), 3)


def test_on_a_gpu_it_is_told_when_the_values_are_there(late, monkeypatch):
    late.note(losses(a=NAN), 1)
    monkeypatch.setattr(Late, 'arrived', True)
    with pytest.raises(FloatingPointError, match='at iteration 1'):
        late.note(losses(a=1.0), 2)


def test_a_checkpoint_is_not_written_over_it(late):
    late.note(losses(a=NAN), 7)
    with pytest.raises(FloatingPointError, match='at iteration 7'):
        late.look()
    late.look()  # told once


def test_outside_a_run_the_iteration_is_unknown():
    with pytest.raises(FloatingPointError, match='at iteration unknown'):
        FiniteCheck().note(losses(a=NAN), None)


def test_losses_that_come_and_go_are_not_mixed_up(late):
    late.note(losses(a=1.0), 0)
    late.note(losses(a=1.0, b=1.0), 1)
    late.note(losses(b=NAN), 2)
    with pytest.raises(FloatingPointError, match=r'^distill\.b\.loss .* iteration 2'):
        late.look()


class Fragile(Objective):
    """An objective whose loss is infinite on the sixth call, and whenever the images are as they were then."""

    asks_teacher = False
    calls = 0
    bad = None

    def bind(self, student, teacher):
        pass

    def forward(self, seen, taught):
        Fragile.calls += 1
        if Fragile.calls == 6:
            Fragile.bad = seen.batch.inputs.sum().item()
        loss = seen.batch.inputs.new_tensor(INFINITE if seen.batch.inputs.sum().item() == Fragile.bad else 1.0)
        return dict(loss_chance=torch.rand(()), loss_fragile=loss)


@pytest.fixture
def failed(detector, tmp_path):
    """A run that fails in its sixth step: config, folder and message."""
    MODELS.register_module(module=Fragile)
    Fragile.calls, Fragile.bad = 0, None
    config = detector.distilled(dict(fragile=dict(type='Fragile')))
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    config.model.student.data_preprocessor.batch_augments = [
        dict(type='BatchSyncRandomResize', random_size_range=(64, 96), interval=1, size_divisor=32)
    ]
    config.dump(tmp_path / 'config.py')
    with pytest.raises(FloatingPointError) as error:
        detector.train(config.copy(), tmp_path / 'run')
    yield tmp_path, str(error.value)
    MODELS._module_dict.pop('Fragile')


def test_the_step_is_kept_and_taken_again(failed, capsys):
    folder, message = failed
    (file,) = (folder / 'run').rglob('nonfinite.pth')
    assert message.startswith('distill.fragile.loss_fragile is NaN or infinite at iteration 5.')
    assert message.endswith(
        f'The step is kept in {file}: kddense replay {file} --config <config> --checkpoint <checkpoint> takes it again'
    )
    step = read_step(file)
    assert (step.iteration, step.seed, step.max_iters) == (5, 3, 12)
    assert step.losses['distill.fragile.loss_fragile'] == INFINITE
    assert math.isfinite(step.losses['loss_rpn_cls'])

    command = [str(file), '--config', str(folder / 'config.py'), '--checkpoint', str(folder / 'run' / 'epoch_1.pth')]
    replay_app.main(command)
    said = capsys.readouterr().out
    assert 'not finite with these weights either: look at this batch' in said
    (chance,) = (line.split() for line in said.splitlines() if 'loss_chance' in line)
    (proposals,) = (line.split() for line in said.splitlines() if 'loss_rpn_bbox' in line)
    assert proposals[1] != 'nan'

    Fragile.bad = None
    replay_app.main(command)
    said = capsys.readouterr().out
    assert 'finite with these weights: the weights had gone wrong by then' in said
    (chance_now,) = (line.split() for line in said.splitlines() if 'loss_chance' in line)
    assert chance_now[2] == chance[2]  # the same random numbers, after as many of the preprocessor and the samplers


def test_a_full_disk_changes_nothing_but_the_message(failed, monkeypatch, detector, tmp_path):
    def full(file, contents):
        raise OSError(28, 'No space left on device')

    Fragile.calls, Fragile.bad = 0, None
    monkeypatch.setattr(kept_step, 'write_whole', full)
    config = detector.distilled(dict(fragile=dict(type='Fragile')))
    config.default_hooks.checkpoint = None
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    with pytest.raises(FloatingPointError, match=r'at iteration 5\. .* could not be kept in .*No space left on device'):
        detector.train(config, tmp_path / 'full')


def test_a_batch_that_is_too_large_is_left_out(failed, monkeypatch):
    folder, _ = failed
    (file,) = (folder / 'run').rglob('nonfinite.pth')
    step = read_step(file)
    monkeypatch.setattr(kept_step, 'LARGEST', 100)
    assert 'its batch was larger' in kept_step._write(step, folder / 'small.pth')
    assert os.path.getsize(folder / 'small.pth') < 60_000
    assert read_step(folder / 'small.pth').losses == step.losses
    with pytest.raises(SystemExit, match='error: the batch of this step was too large'):
        replay_app.main([str(folder / 'small.pth'), '--config', str(folder / 'config.py'), '--checkpoint', 'x.pth'])


def test_another_file_is_refused(tmp_path):
    torch.save(dict(state_dict={}), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'other\.pth keeps no training step'):
        read_step(tmp_path / 'other.pth')
    hostile = dict(
        iteration=1, losses={}, random_state=None, batch={kept_step.KIND: 'os.system', 'arguments': ['false']}
    )
    torch.save(hostile, tmp_path / 'hostile.pth')
    with pytest.raises(ValueError, match=r'hostile\.pth keeps no training step'):
        read_step(tmp_path / 'hostile.pth')


def leaves(value):
    """Return everything in a batch as pairs of a type and plain values."""
    if isinstance(value, (list, tuple)):
        return [leaf for one in value for leaf in leaves(one)]
    if isinstance(value, dict):
        return [leaf for key in sorted(value) for leaf in leaves(value[key])]
    if hasattr(value, 'all_items'):
        return [type(value).__name__, *leaves(dict(value.all_items()))]
    if hasattr(value, 'tensor'):
        return [type(value).__name__, *leaves(value.tensor)]
    if hasattr(value, 'masks'):
        return [type(value).__name__, value.height, value.width, *leaves(value.masks)]
    return [value.tolist()] if isinstance(value, (torch.Tensor, np.ndarray)) else [value]


def test_a_batch_is_read_as_it_was(task):
    from mmdet.structures.mask import BitmapMasks, PolygonMasks

    batch = task.batch([0, 1])
    if task.package == 'mmdet':
        first, second = (sample.gt_instances for sample in batch['data_samples'])
        first.masks = BitmapMasks(np.ones((len(first), 64, 64), np.uint8), 64, 64)
        second.masks = PolygonMasks([[np.arange(6.0)] for _ in range(len(second))], 64, 64)
    again = from_data(as_data(copy.deepcopy(batch)))
    assert leaves(again) == leaves(batch)
    assert type(again['data_samples'][0]) is type(batch['data_samples'][0])
