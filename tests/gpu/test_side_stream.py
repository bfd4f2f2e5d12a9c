"""Teachers on a stream of their own: the same numbers, whoever is late."""

from __future__ import annotations

import warnings

import pytest
import torch

from kddense.distiller.plan import Plan
from kddense.distiller.side_stream import SideStream, tensors_in
from kddense.exchange import Answer, Batch

from ..helpers import on_gpu
from ..helpers.variants import as_variants

LONG = 50_000_000  # clock cycles: some 30 ms
SIZE = 64 * 2**20 // 4  # numbers of 64 MiB
STEPS = 4


@pytest.fixture
def slow_teachers(monkeypatch):
    """Teachers begin late, on whichever stream they are, while memory on the student's is given back and taken again."""
    asked = Plan.ask_early

    def ask(plan, batch):
        torch.cuda._sleep(LONG)
        return asked(plan, batch)

    monkeypatch.setattr(Plan, 'ask_early', ask)
    learned = Plan.learn

    def learn(plan, *args):
        for _ in range(8):
            torch.full((SIZE // 16,), float('nan'), device='cuda')
        return learned(plan, *args)

    monkeypatch.setattr(Plan, 'learn', learn)


@pytest.mark.parametrize('family', on_gpu.FAMILIES)
def test_losses_and_weights_are_those_of_one_stream(family, slow_teachers):
    batches = on_gpu.images_of(family, STEPS)
    wanted, again = (on_gpu.train(on_gpu.model_of(family), batches) for _ in range(2))
    model = on_gpu.model_of(family, side_stream=True)
    found = on_gpu.train(model, batches)
    assert model.side_stream._streams
    if on_gpu.is_equal(wanted, again):
        assert on_gpu.is_equal(found, wanted)
    else:
        warnings.warn(f'{family}: two runs on one stream differ by themselves', stacklevel=1)
        on_gpu.assert_near(found, wanted)


@pytest.mark.parametrize('family', ['segmentor', 'fcos', 'two_teachers', 'gradients'])
def test_answers_are_those_of_one_stream(family, slow_teachers, monkeypatch):
    heard = []
    compared = Plan.compare

    def compare(plan, seen, taught, task):
        heard.append([tensor.clone() for answer in taught.values() for tensor in tensors_in(answer)])
        return compared(plan, seen, taught, task)

    monkeypatch.setattr(Plan, 'compare', compare)
    batches = on_gpu.images_of(family, STEPS)
    for side_stream in (False, True):
        on_gpu.train(on_gpu.model_of(family, side_stream=side_stream), batches)
    assert all(heard)
    for wanted, found in zip(heard[:STEPS], heard[STEPS:], strict=True):
        assert len(wanted) == len(found)
        for one, other in zip(wanted, found, strict=True):
            # Gradients are sums that a GPU adds in any order.
            error = 1e-3 * one.abs().max() if family == 'gradients' else 0
            torch.testing.assert_close(other, one, rtol=0, atol=float(error))


@pytest.mark.parametrize('side_stream', [False, True])
@pytest.mark.parametrize('family', ['segmentor', 'fcos'])
def test_a_cache_changes_nothing(family, side_stream, slow_teachers, tmp_path):
    batches = [as_variants(data, images=8) for data in batches_of(family)]
    wanted, again = (on_gpu.train(on_gpu.model_of(family), batches) for _ in range(2))
    for asked, read in ((2, 2), (0, 4)):
        model = on_gpu.model_of(family, cache=tmp_path, side_stream=side_stream)
        found = on_gpu.train(model, batches)
        teacher = model.teachers['teacher']
        assert (teacher.asked, teacher.read) == (asked, read)
        teacher.store.flush()
        if on_gpu.is_equal(wanted, again):
            assert on_gpu.is_equal(found, wanted)
        else:
            on_gpu.assert_near(found, wanted)


def batches_of(family):
    first, second = on_gpu.images_of(family, 2)
    return [first, second, first, second]


def on_side(function, inputs):
    """Ask about images; returns the side stream, and the answers."""
    side = SideStream(True)
    answers = side.ask(lambda batch: {'teacher': Answer(taps={'a': function(batch.inputs)})}, Batch(inputs, []))
    return side, answers


def late(values):
    torch.cuda._sleep(LONG)
    return values + 1


def test_the_side_waits_for_the_images():
    zeros = torch.zeros(SIZE, device='cuda')
    torch.cuda.synchronize()
    torch.cuda._sleep(LONG)
    side, answers = on_side(torch.clone, zeros.add_(1))
    assert side.joined(answers)['teacher'].taps['a'].eq(1).all()


def test_the_student_waits_for_the_answers():
    side, answers = on_side(late, torch.ones(SIZE, device='cuda'))
    assert side.joined(answers)['teacher'].taps['a'].eq(2).all()


def test_images_stay_until_the_side_has_read_them():
    torch.cuda.synchronize()
    inputs = torch.ones(SIZE, device='cuda')
    side, answers = on_side(late, inputs)
    del inputs
    others = [torch.full((SIZE,), 7.0, device='cuda') for _ in range(2)]
    assert side.joined(answers)['teacher'].taps['a'].eq(2).all()
    assert all(one.eq(7).all() for one in others)


def test_answers_stay_until_the_student_has_read_them():
    side, answers = on_side(late, torch.ones(SIZE, device='cuda'))
    taught = side.joined(answers)
    torch.cuda._sleep(LONG)
    read = taught['teacher'].taps['a'].clone()
    del taught, answers
    with torch.cuda.stream(side._streams[read.device]):
        others = [torch.full((SIZE,), 7.0, device='cuda') for _ in range(2)]
    assert read.eq(2).all()
    assert all(one.eq(7).all() for one in others)


def test_both_compute_at_the_same_time():
    """What the student does after the question does not wait for the answers; other programs may hold up a try."""
    ones = torch.ones(16, device='cuda')
    on_side(late, ones)  # loads what runs
    assert any(before < 0.5 * after for before, after in (student_and_all(ones) for _ in range(5)))


def student_and_all(ones):
    """Return the milliseconds until the student has computed, and until the answers are there too."""
    ends = [torch.cuda.Event(enable_timing=True) for _ in range(3)]
    torch.cuda.synchronize()
    ends[0].record()
    side, answers = on_side(late, ones)
    torch.cuda._sleep(LONG // 10)
    ends[1].record()
    side.joined(answers)
    ends[2].record()
    torch.cuda.synchronize()
    return [ends[0].elapsed_time(end) for end in ends[1:]]
