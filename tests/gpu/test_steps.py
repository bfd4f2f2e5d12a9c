"""Whole steps on a GPU: nobody waits for it, memory stays, and the fast student runs."""

from __future__ import annotations

import copy
import traceback
import warnings
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from kddense.apps.step_rows import measure_rows

from ..helpers import on_gpu

OUTSIDE = ('/torch/', '/warnings.py', __file__)  # not named as places that wait


def waits_of(step):
    """Return where a step waits for the GPU: the last four places in the code, the innermost first."""
    places = []

    def note(message, *_, **__):
        if 'synchronizing' in str(message):
            stack = [one for one in traceback.extract_stack() if not any(part in one.filename for part in OUTSIDE)]
            places.append(' < '.join(f'{Path(one.filename).name}:{one.lineno}' for one in stack[:-5:-1]))

    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter('always')
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode('warn')
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return places


def test_waiting_is_noticed():
    assert waits_of(lambda: torch.ones(1, device='cuda').item())
    assert not waits_of(lambda: torch.ones(1, device='cuda') + 1)


@pytest.mark.parametrize('options', [{}, dict(side_stream=True)], ids=['', 'side_stream'])
@pytest.mark.parametrize('family', ['segmentor', 'fcos'])
def test_a_distilled_step_waits_no_more_than_a_plain_one(family, options):
    # Places of single boxes are found by their labels: how many there are, the CPU must know.
    model = on_gpu.model_of(family, but=['dense'], **options)
    (data,) = on_gpu.images_of(family, 1)
    on_gpu.train(model, [data] * 3)
    prepared = model.data_preprocessor(copy.deepcopy(data), True)

    def waits(one):
        own = copy.deepcopy(prepared)
        return waits_of(lambda: model.parse_losses(one(**own, mode='loss'))[0].backward())

    plain, distilled = waits(model.student), waits(model)
    added = list(distilled)
    for place in plain:
        if place in added:
            added.remove(place)
    assert len(distilled) <= len(plain), added


@pytest.mark.parametrize('family', ['segmentor', 'fcos', 'faster_rcnn'])
def test_a_fast_student_takes_steps(family):
    """The student in bfloat16 and channels last, its teachers beside it: it begins with nearly the losses of float32."""
    batches = on_gpu.images_of(family, 3)
    plain, _ = on_gpu.train(on_gpu.model_of(family), batches[:1])
    model = on_gpu.model_of(family, side_stream=True)
    model.student.to(memory_format=torch.channels_last)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = on_gpu.optimizer_of(model, 0.005, type='AmpOptimWrapper', dtype='bfloat16')
    logs, weights = on_gpu.train(model, batches, optimizer=optimizer)
    assert own_loss(logs[0]) == pytest.approx(own_loss(plain[0]), rel=0.2)
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert any(not torch.equal(weights[key], before[key]) for key in before)


def own_loss(log):
    """Return the sum of the student's own losses."""
    return sum(float(value) for key, value in log.items() if 'loss_' in key and not key.startswith('distill.'))


@pytest.mark.parametrize('options', [{}, dict(side_stream=True)], ids=['', 'side_stream'])
def test_memory_does_not_grow(options):
    model = on_gpu.model_of('segmentor', **options)
    optimizer = on_gpu.optimizer_of(model, 0.01)
    held = []
    for data in on_gpu.images_of('segmentor', 8):
        on_gpu.train(model, [data], optimizer=optimizer)
        torch.cuda.synchronize()
        held.append(torch.cuda.memory_allocated())
    assert max(held[4:]) <= max(held[2:4]) + 2**20


def test_rows_of_a_gpu():
    student, teacher, objectives, scope = on_gpu.FAMILIES['segmentor']
    model = dict(
        type='kddense.Distiller',
        student=student,
        teacher=dict(config=dict(model=teacher), checkpoint=None),
        objectives=objectives,
    )
    rows = ['online', 'beside', 'cached', 'fast']
    found = measure_rows(
        Config(dict(model=model, default_scope=scope)), (2, 144, 144), 'cuda', rows, rounds=2, warmup=1
    )
    assert list(found['rows']) == ['plain', *rows, 'teacher']
    assert all(found['memory'][name] > 0 for name in rows)
