"""How far a file's outputs are from PyTorch's, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from kddense.export.agreement import Agreement, Rows, detections_in, relative

BOXES = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])


def rows(boxes=BOXES, scores=(0.9, 0.8), labels=(0, 1)):
    return Rows(torch.as_tensor(boxes), torch.tensor(scores)[:, None], torch.tensor(labels))


def test_the_same_in_another_order():
    found = rows(BOXES.flip(0) + 0.01, (0.8005, 0.9), (1, 0))
    agreement = Agreement.of(found, rows())
    assert (agreement.number, agreement.same) == (2, 2)
    assert agreement.boxes == pytest.approx(0.01, abs=1e-5)
    assert agreement.scores == pytest.approx(0.0005, abs=1e-6)
    assert agreement.holds


@pytest.mark.parametrize(
    'found', [rows(BOXES + 1), rows(scores=(0.7, 0.6)), rows(labels=(1, 0)), rows(BOXES[:0], (), ())]
)
def test_others(found):
    agreement = Agreement.of(found, rows())
    assert (agreement.number, agreement.same) == (2, 0)
    assert not agreement.holds


def test_one_more_than_there_are():
    found = rows(torch.cat([BOXES, BOXES[:1]]), (0.9, 0.8, 0.7), (0, 1, 0))
    assert Agreement.of(found, rows()) == Agreement(number=3, same=2)


def test_one_of_a_hundred_may_differ():
    assert (Agreement(99, 99, 0.1, 0.2) + Agreement(1, 0, 0.3, 0.1)) == Agreement(100, 99, 0.3, 0.2)
    assert Agreement(100, 99).holds
    assert not Agreement(100, 98).holds
    assert Agreement().holds  # where neither finds anything


def test_rows_that_hold_nothing():
    found = dict(
        labels=torch.tensor([[1, -1], [-1, -1]]),
        boxes=torch.stack([BOXES, BOXES * 0]),
        scores=torch.tensor([[0.5, 0.0], [0.0, 0.0]]),
    )
    first, second = detections_in(found)
    assert (first.labels.tolist(), first.boxes.tolist()) == ([1], BOXES[:1].tolist())
    assert len(second.labels) == 0


def test_relative_to_the_greatest():
    assert relative(torch.tensor([1.0, -3.0]), torch.tensor([1.0, -4.0])) == 0.25
    assert relative(torch.zeros(2), torch.zeros(3)) == math.inf
    assert math.isnan(relative(torch.tensor([math.nan]), torch.tensor([1.0])))
