"""A loss that is NaN or infinite is named, with the iteration in which it first was."""

import pytest
import torch

from kddense.distiller.finite import FiniteCheck

NAN, INFINITE = float('nan'), float('inf')


def losses(**values):
    terms = {f'distill.{name}.loss': torch.tensor(value) for name, value in values.items()}
    return {'loss_cls': torch.tensor(NAN), **terms}  # the student's own are mmengine's business


@pytest.fixture
def patient(monkeypatch):
    """A check that collects, as it does on a GPU: it looks every four steps."""
    monkeypatch.setattr('kddense.distiller.finite.waits', lambda device: True)
    return FiniteCheck(every=4)


@pytest.mark.parametrize('bad', [NAN, INFINITE, -INFINITE])
def test_on_a_cpu_it_is_told_at_once(bad):
    check = FiniteCheck()
    check.note(losses(a=1.0, b=2.0), 0)
    with pytest.raises(FloatingPointError, match=r'^distill\.b\.loss is NaN or infinite at iteration 1\. Lower'):
        check.note(losses(a=1.0, b=bad), 1)


def test_on_a_gpu_it_waits_and_still_names_the_first(patient):
    for iteration, values in enumerate([(1.0, 1.0), (1.0, NAN), (INFINITE, NAN)]):
        patient.note(losses(a=values[0], b=values[1]), iteration)
    with pytest.raises(FloatingPointError, match=r'^distill\.b\.loss is NaN or infinite at iteration 1\.'):
        patient.note(losses(a=1.0, b=1.0), 3)


def test_a_checkpoint_is_not_written_over_it(patient):
    patient.note(losses(a=NAN), 7)
    with pytest.raises(FloatingPointError, match='at iteration 7'):
        patient.look()
    patient.look()  # told once


def test_outside_a_run_the_iteration_is_unknown():
    with pytest.raises(FloatingPointError, match='at iteration unknown'):
        FiniteCheck().note(losses(a=NAN), None)


def test_losses_that_come_and_go_are_not_mixed_up(patient):
    patient.note(losses(a=1.0), 0)
    patient.note(losses(a=1.0, b=1.0), 1)
    patient.note(losses(b=NAN), 2)
    with pytest.raises(FloatingPointError, match=r'^distill\.b\.loss .* iteration 2'):
        patient.note(losses(b=1.0), 3)
