"""DETRDistill: predictions of two models are matched, and the pairs compared."""

import itertools
import math

import pytest
import torch
from torch.autograd import gradcheck

from kddense.losses import (
    MatchedLoss,
    match_predictions,
    matched_distance,
    query_quality,
    target_aware_distance,
    target_mask,
)

from .test_kd_detr import giou, said, softmax


def pair(count=5, seed=0, dtype=torch.float64):
    """Return logits ``(count, K)`` and boxes ``(count, 4)``."""
    logits, boxes, _ = said(1, count, 3, seed, dtype)
    return logits[0], boxes[0]


def cross_entropy(own, other, sigmoid):
    if not sigmoid:
        return -sum(p * math.log(q) for p, q in zip(softmax(other), softmax(own), strict=True))
    sigma = lambda value: 1 / (1 + math.exp(-value))  # noqa: E731
    return -sum(
        sigma(t) * math.log(sigma(s)) + (1 - sigma(t)) * math.log(1 - sigma(s)) for s, t in zip(own, other, strict=True)
    )


def cost_of(own, other, sigmoid, costs):
    (logits, box), (target_logits, target) = own, other
    distance = sum(abs(a - b) for a, b in zip(box, target, strict=True))
    return costs[0] * cross_entropy(logits, target_logits, sigmoid) + costs[1] * distance - costs[2] * giou(box, target)


@pytest.mark.parametrize('sigmoid', [True, False])
@pytest.mark.parametrize('ours, theirs', [(4, 4), (5, 3), (3, 5)])
def test_no_other_matching_costs_less(ours, theirs, sigmoid):
    costs = (1.0, 5.0, 2.0)
    student, teacher = pair(ours), pair(theirs, seed=1)
    rows, columns = match_predictions(*student, *teacher, sigmoid, costs)
    price = [
        [cost_of(own, other, sigmoid, costs) for other in zip(*(one.tolist() for one in teacher), strict=True)]
        for own in zip(*(one.tolist() for one in student), strict=True)
    ]
    few = min(ours, theirs)
    assert len(set(rows.tolist())) == len(set(columns.tolist())) == few
    paid = sum(price[row][column] for row, column in zip(rows.tolist(), columns.tolist(), strict=True))
    least = min(
        sum(price[row][column] for row, column in zip(chosen, order, strict=True))
        for chosen in itertools.combinations(range(ours), few)
        for order in itertools.permutations(range(theirs), few)
    )
    assert paid == pytest.approx(least)


@pytest.mark.parametrize('sigmoid', [True, False])
def test_a_perfect_student_is_matched_with_itself_in_whatever_order(sigmoid):
    logits, boxes = pair(8, dtype=torch.float32)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    rows, columns = match_predictions(logits[order], boxes[order], logits, boxes, sigmoid)
    assert torch.equal(order[rows], columns)
    found = matched_distance(logits[order][rows], boxes[order][rows], logits[columns], boxes[columns], sigmoid)
    assert all(abs(one) < 1e-6 for one in found)


def test_costs_choose_what_counts():
    """By classes alone the first two change places, by boxes alone they stay."""
    logits = torch.tensor([[4.0, -4.0], [-4.0, 4.0]])
    boxes = torch.tensor([[0.2, 0.2, 0.1, 0.1], [0.8, 0.8, 0.1, 0.1]])
    given = (logits, boxes, logits.flip(0), boxes)
    assert match_predictions(*given, costs=(1.0, 0.0, 0.0))[1].tolist() == [1, 0]
    assert match_predictions(*given, costs=(0.0, 1.0, 1.0))[1].tolist() == [0, 1]


def test_numbers_that_are_none_are_matched_and_show():
    logits, boxes = pair()
    broken = logits.clone()
    broken[0] = math.nan
    rows, columns = match_predictions(broken, boxes, logits, boxes)
    assert len(rows) == 5
    assert matched_distance(broken[rows], boxes[rows], logits[columns], boxes[columns]).classes.isnan()


@pytest.mark.parametrize('sigmoid', [True, False])
def test_values_are_the_mean_over_pairs(sigmoid):
    (logits, boxes), (target_logits, targets) = pair(), pair(seed=1)
    found = matched_distance(logits, boxes, target_logits, targets, sigmoid)
    rows = list(zip(*(one.tolist() for one in (logits, boxes, target_logits, targets)), strict=True))
    classes = [cross_entropy(own, other, sigmoid) - cross_entropy(other, other, sigmoid) for own, _, other, _ in rows]
    assert found.classes.item() == pytest.approx(sum(classes) / 5)
    moved = [sum(abs(a - b) for a, b in zip(box, target, strict=True)) for _, box, _, target in rows]
    assert found.boxes.item() == pytest.approx(sum(moved) / 5)
    assert found.overlaps.item() == pytest.approx(sum(1 - giou(box, target) for _, box, _, target in rows) / 5)
    assert matched_distance(logits, boxes, target_logits, targets, sigmoid, divisor=10).boxes == found.boxes / 2


@pytest.mark.parametrize('sigmoid', [True, False])
def test_gradcheck(sigmoid):
    inputs = [one.requires_grad_() for one in pair()]
    teacher = pair(seed=1)
    assert gradcheck(lambda *own: tuple(matched_distance(*own, *teacher, sigmoid)), inputs)


def test_no_gradient_flows_into_the_teacher():
    given = [one.requires_grad_() for one in (*pair(), *pair(seed=1))]
    sum(matched_distance(*given)).backward()
    assert [one.grad is None for one in given] == [False, False, True, True]


def test_nothing_matched_is_a_zero_that_back_propagates():
    logits, boxes = (one.requires_grad_() for one in pair(0))
    found = matched_distance(logits, boxes, *pair(0))
    sum(found).backward()
    assert [one.item() for one in found] == [0, 0, 0]
    assert boxes.grad.shape == (0, 4)


def test_only_predictions_that_count_are_matched():
    student, teacher = said(2, 4, 3)[:2], said(2, 5, 3, seed=1)[:2]
    counts = torch.tensor([[True, False, False, True, False], [False] * 5])
    loss = MatchedLoss()
    ours, theirs = loss.pairs(student, teacher, counts, True)
    assert set(theirs.tolist()) == {0, 3}
    assert all(row < 4 for row in ours)
    found = loss(student, teacher, (ours, theirs), True)
    own, other = ([value.flatten(0, 1)[rows] for value in side] for side, rows in ((student, ours), (teacher, theirs)))
    assert found == matched_distance(*own, *other)


def test_low_precision_is_computed_in_float32():
    (logits, boxes), teacher = pair(dtype=torch.float32), pair(seed=1, dtype=torch.float32)
    low = matched_distance(logits.bfloat16(), boxes.bfloat16(), *teacher)
    assert torch.equal(
        torch.stack(low), torch.stack(matched_distance(logits.bfloat16().float(), boxes.bfloat16().float(), *teacher))
    )


def test_bad_costs_are_named():
    with pytest.raises(ValueError, match='costs must be three numbers'):
        MatchedLoss((1.0, 5.0))
    with pytest.raises(ValueError, match='costs must be at least 0, got -1'):
        MatchedLoss((1.0, -1.0, 2.0))


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize('gamma', [None, 0.0, 0.3, 1.0])
@pytest.mark.parametrize('top', [1, 4, 100])
def test_the_quality_of_a_query_is_that_of_its_likeliest_classes(top, gamma):
    probabilities, overlaps = drawn(2, 3, 4).sigmoid(), drawn(2, 3, seed=1).sigmoid()
    found = query_quality(probabilities, overlaps, top, gamma)
    for image in range(2):
        pairs = sorted(((probabilities[image, q, c].item(), q) for q in range(3) for c in range(4)), reverse=True)[:top]
        for query in range(3):
            covers = overlaps[image, query].item()
            form = (lambda p, iou: p * iou) if gamma is None else (lambda p, iou: p**gamma * iou ** (1 - gamma))
            wanted = sum(form(p, covers) for p, q in pairs if q == query)
            assert found[image, query].item() == pytest.approx(wanted)


def cosine(one, other):
    length = lambda values: math.sqrt(sum(value * value for value in values))  # noqa: E731
    return sum(a * b for a, b in zip(one, other, strict=True)) / (length(one) * length(other))


def test_masks_and_distances_are_those_of_loops():
    features, student = drawn(2, 5, 3, 4), drawn(2, 5, 3, 4, seed=1)
    states, quality = drawn(2, 6, 5, seed=2), drawn(2, 6, seed=3).sigmoid()
    mask = target_mask(features, states, quality)
    total = 0.0
    for image in range(2):
        cells = {
            (row, column): max(
                sum(
                    quality[image, query].item()
                    * cosine(states[image, query].tolist(), features[image, :, row, column].tolist())
                    for query in range(6)
                ),
                0.01,
            )
            for row in range(3)
            for column in range(4)
        }
        for (row, column), value in cells.items():
            value /= max(cells.values())
            assert mask[image, 0, row, column].item() == pytest.approx(value)
            apart = (student[image, :, row, column] - features[image, :, row, column]).tolist()
            total += sum((value * one) ** 2 for one in apart)
    assert target_aware_distance(student, features, mask).item() == pytest.approx(total / features.numel())


def test_queries_that_know_nothing_leave_every_place_alike():
    features, states = drawn(1, 5, 3, 4), drawn(1, 6, 5, seed=2)
    assert torch.equal(target_mask(features, states, torch.zeros(1, 6)), torch.ones(1, 1, 3, 4, dtype=torch.float64))
    assert torch.equal(target_mask(features, states[:, :0], torch.zeros(1, 0)), torch.ones(1, 1, 3, 4).double())


def test_target_aware_gradients_are_the_students_alone():
    student, teacher = (drawn(1, 3, 2, 2, seed=seed).requires_grad_() for seed in (0, 1))
    states = drawn(1, 4, 3, seed=2).requires_grad_()
    mask = target_mask(teacher, states, torch.ones(1, 4))
    assert gradcheck(lambda own: target_aware_distance(own, teacher, mask), [student])
    target_aware_distance(student, teacher, mask).backward()
    assert teacher.grad is None
    assert states.grad is None


def test_empty_maps_are_a_zero_that_back_propagates():
    for shape in ((0, 3, 2, 2), (1, 3, 0, 2)):
        student, teacher = drawn(*shape).requires_grad_(), drawn(*shape)
        mask = target_mask(teacher, drawn(shape[0], 4, 3), torch.ones(shape[0], 4))
        loss = target_aware_distance(student, teacher, mask)
        loss.backward()
        assert loss.item() == 0


def test_bad_target_aware_options_are_named():
    with pytest.raises(ValueError, match='top must be at least 1, got 0'):
        query_quality(torch.zeros(1, 2, 3), torch.zeros(1, 2), top=0)
    with pytest.raises(ValueError, match=r'gamma must be None or in 0..1, got 2'):
        query_quality(torch.zeros(1, 2, 3), torch.zeros(1, 2), gamma=2)
    with pytest.raises(ValueError, match='features have 4 channels and states 5'):
        target_mask(torch.zeros(1, 4, 2, 2), torch.zeros(1, 3, 5), torch.zeros(1, 3))
