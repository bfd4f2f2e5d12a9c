"""KD-DETR's distance of two models in what they say of the same queries."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from kddense.losses import SharedQueryLoss, shared_query_distance

BOX = torch.tensor([[[0.5, 0.5, 0.2, 0.2]]])


def said(images=2, queries=3, classes=4, seed=0, dtype=torch.float64):
    """Return logits, boxes and weights of queries."""
    random = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.rand(*shape, generator=random, dtype=dtype)  # noqa: E731
    return draw(images, queries, classes) * 4 - 2, draw(images, queries, 4) * 0.4 + 0.2, draw(images, queries)


def plainly(logits, boxes, target_logits, target_boxes, weight, temperature):
    """Return the three sums query by query, as the method is told."""
    classes = distance = overlap = total = 0.0
    for own, box, other, target, much in zip(
        *(one.flatten(0, 1).tolist() for one in (logits, boxes, target_logits, target_boxes)),
        weight.flatten().tolist(),
        strict=True,
    ):
        p, q = (softmax([one / temperature for one in row]) for row in (other, own))
        classes += much * temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / len(p)
        distance += much * sum(abs(a - b) for a, b in zip(box, target, strict=True)) / 4
        overlap += much * (1 - giou(box, target))
        total += much
    return classes, distance / total, overlap / total


def softmax(row):
    powers = [math.exp(one) for one in row]
    return [one / sum(powers) for one in powers]


def giou(one, other):
    (ax, ay, bx, by), (cx, cy, dx, dy) = ((x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in (one, other))
    inside = max(0, min(bx, dx) - max(ax, cx)) * max(0, min(by, dy) - max(ay, cy))
    union = one[2] * one[3] + other[2] * other[3] - inside
    around = (max(bx, dx) - min(ax, cx)) * (max(by, dy) - min(ay, cy))
    return inside / union - (around - union) / around


@pytest.mark.parametrize('temperature', [1.0, 10.0])
def test_it_is_the_sum_over_queries(temperature):
    logits, boxes, _ = said()
    target_logits, target_boxes, weight = said(seed=1)
    wanted = plainly(logits, boxes, target_logits, target_boxes, weight, temperature)
    given = (logits, boxes, target_logits, target_boxes, weight, temperature)
    found = shared_query_distance(*given, average='batch')
    torch.testing.assert_close(torch.stack(found), torch.tensor(wanted, dtype=torch.float64))
    by_image = shared_query_distance(*given).classes
    torch.testing.assert_close(by_image, found.classes / 2)
    by_weight = shared_query_distance(*given, average='weights').classes
    torch.testing.assert_close(by_weight, found.classes / weight.sum())


def test_values_by_hand():
    """One class more likely by log 3 than the other in the teacher alone; a box that is moved by its half width."""
    teacher, student = torch.tensor([[[math.log(3.0), 0.0]]]), torch.zeros(1, 1, 2)
    moved = BOX + torch.tensor([0.1, 0.0, 0.0, 0.0])
    found = shared_query_distance(student, moved, teacher, BOX, torch.tensor([[0.5]]), temperature=1.0)
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert found.classes.item() == pytest.approx(0.5 * kl / 2)
    assert found.boxes.item() == pytest.approx(0.1 / 4)
    assert found.overlaps.item() == pytest.approx(1 - 1 / 3)


def test_gradcheck():
    logits, boxes, _ = said()
    teacher = said(seed=1)
    inputs = (logits.requires_grad_(), boxes.requires_grad_())
    assert gradcheck(lambda *own: tuple(shared_query_distance(*own, *teacher)), inputs)


def test_no_gradient_flows_into_the_teacher():
    given = [one.requires_grad_() for one in (*said()[:2], *said(seed=1))]
    sum(shared_query_distance(*given)).backward()
    assert [one.grad is None for one in given] == [False, False, True, True, True]


def test_a_perfect_student_has_nothing_to_learn():
    logits, boxes, weight = said(dtype=torch.float32)
    assert all(abs(one) < 1e-6 for one in shared_query_distance(logits, boxes, logits, boxes, weight))


@pytest.mark.parametrize('images, queries', [(2, 0), (0, 3)])
def test_no_query_is_a_zero_that_back_propagates(images, queries):
    logits, boxes, weight = said(images, queries)
    inputs = (logits.requires_grad_(), boxes.requires_grad_())
    found = shared_query_distance(*inputs, logits.detach(), boxes.detach(), weight)
    sum(found).backward()
    assert [one.item() for one in found] == [0, 0, 0]
    assert all(one.grad.shape == one.shape for one in inputs)


def test_queries_of_which_the_teacher_is_sure_of_nothing_are_a_zero():
    logits, boxes, weight = said()
    logits.requires_grad_()
    found = shared_query_distance(logits, boxes, *said(seed=1)[:2], weight * 0)
    sum(found).backward()
    assert [one.item() for one in found] == [0, 0, 0]
    assert not logits.grad.any()


def test_boxes_that_are_points_are_finite():
    boxes = torch.zeros(1, 2, 4, requires_grad=True)
    logits, _, weight = said(1, 2, dtype=torch.float32)
    sum(shared_query_distance(logits, boxes, logits, torch.zeros(1, 2, 4), weight)).backward()
    assert boxes.grad.isfinite().all()


def test_low_precision_is_computed_in_float32():
    logits, boxes, _ = said(dtype=torch.float32)
    low = shared_query_distance(logits.bfloat16(), boxes.bfloat16(), *said(seed=1, dtype=torch.float32))
    wide = shared_query_distance(
        logits.bfloat16().float(), boxes.bfloat16().float(), *said(seed=1, dtype=torch.float32)
    )
    assert all(one.dtype == torch.float32 for one in low)
    assert torch.equal(torch.stack(low), torch.stack(wide))


def test_the_module_is_the_function():
    given = (*said()[:2], *said(seed=1))
    assert SharedQueryLoss(2.0, 'weights')(*given) == shared_query_distance(*given, temperature=2.0, average='weights')
    assert SharedQueryLoss()(*given, divisor=3.0).boxes == shared_query_distance(*given).boxes * given[-1].sum() / 3


def test_bad_options_are_named():
    given = (*said()[:2], *said(seed=1))
    with pytest.raises(ValueError, match='average must be one of'):
        shared_query_distance(*given, average='mean')
    with pytest.raises(ValueError, match='temperature must be above 0, got 0'):
        SharedQueryLoss(0)
    with pytest.raises(ValueError, match='student_logits and teacher_logits must have one shape'):
        shared_query_distance(said(queries=2)[0], *given[1:])
