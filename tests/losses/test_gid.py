"""GID: instances by hand and by a loop, values of the terms, exact gradients, too few instances."""

import pytest
import torch

from kddense.losses import (
    distance_relation,
    general_instances,
    instance_distance,
    instance_relation,
    near_instances,
    response_distance,
)

from ..helpers import loss_checks as checks

BOXES = torch.tensor([[0.0, 0, 20, 20], [2, 0, 22, 20], [40, 40, 90, 90], [60, 0, 65, 40]])


def test_instances_by_hand():
    """The second overlaps the first and counts less; the last is too thin; the third is cut to the image."""
    student = torch.tensor([[-2.0, 0], [-1, 0], [0, 1], [-5, -5]])
    teacher = torch.tensor([[2.0, 0], [2, 0], [0, -1], [5, 5]])
    found = general_instances((student, BOXES), (teacher, BOXES + 1), (80, 80))
    # Surer: the teacher of the first, the student of the third.
    assert found.tolist() == [[1, 1, 21, 21], [40, 40, 80, 80]]
    assert general_instances((student, BOXES), (teacher, BOXES + 1), (80, 80), most=1).tolist() == [[1, 1, 21, 21]]
    thin = general_instances((student, BOXES), (teacher, BOXES + 1), (80, 80), smallest=4)
    assert thin.tolist()[0] == [61, 1, 66, 41]


def iou(one, other):
    low, high = torch.maximum(one[:2], other[:2]), torch.minimum(one[2:], other[2:])
    inside = (high - low).clamp(min=0).prod()
    return inside / ((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - inside)


@pytest.mark.parametrize('seed', range(3))
def test_instances_are_those_of_a_loop(seed):
    logits = checks.random_tensor(2, 60, 4, seed=seed)
    corners = 80 * torch.rand(2, 60, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    boxes = torch.cat([corners, corners + 30], dim=2).float()
    ranked = []
    for place in range(60):
        s, t = logits[0, place].sigmoid(), logits[1, place].sigmoid()
        box = boxes[int(t.max() > s.max()), place].clamp(0, 100)
        ranked.append(((s - t).abs().max().item(), box))
    ranked.sort(key=lambda pair: -pair[0])
    kept = []
    for _, box in ranked[:40]:
        large = min((box[2:] - box[:2]).tolist()) > 10
        if large and all(iou(box, other) <= 0.3 for other in kept):
            kept.append(box)
    found = general_instances((logits[0], boxes[0]), (logits[1], boxes[1]), (100, 100), most=5, candidates=40)
    assert len(found) == 5
    torch.testing.assert_close(found, torch.stack(kept[:5]))


def test_anchors_of_instances():
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 12], [30, 0, 40, 10], [50, 50, 60, 60]])
    instances = torch.tensor([[0.0, 0, 10, 10], [33, 5, 60, 40]])
    assert near_instances(anchors, instances).tolist() == [True, True, True, False]
    assert near_instances(anchors, instances, 0.9).tolist() == [True, False, True, False]
    assert not near_instances(anchors, torch.zeros(0, 4)).any()
    assert not near_instances(anchors[3:], instances[:1]).any()


def test_values_of_the_terms():
    student, teacher = checks.random_tensor(4, 3, 2, 2), checks.random_tensor(4, 3, 2, 2, seed=1)
    squares = sum((a - b) ** 2 for a, b in zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True))
    assert instance_distance(student, teacher).item() == pytest.approx(squares / (4 * 2 * 2))

    flat = [side.flatten(1) for side in (student, teacher)]
    relative = []
    for side in flat:
        distances = torch.cdist(side, side)
        relative.append(distances / (distances.sum() / 12))
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    huber = [torch.nn.functional.smooth_l1_loss(relative[0][pair], relative[1][pair]).item() for pair in pairs]
    assert instance_relation(student, teacher).item() == pytest.approx(sum(huber) / 12, rel=1e-6)
    assert instance_relation(student, teacher).item() == pytest.approx(distance_relation(*flat).item() * 4 / 3)

    own, other = torch.tensor([[0.2, 0.9]]).logit(), torch.tensor([[0.6, 0.8]]).logit()
    boxes = torch.tensor([[0.0, 1, 2, 3]])
    classes, distances = response_distance((own, boxes), (other, boxes + torch.tensor([1.0, 0, -2, 0])))
    expected = -(0.6 * own[0, 0].sigmoid().log() + 0.4 * (1 - own[0, 0].sigmoid()).log())
    expected -= 0.8 * own[0, 1].sigmoid().log() + 0.2 * (1 - own[0, 1].sigmoid()).log()
    torch.testing.assert_close(classes, expected)
    assert distances.item() == 3


def responses(own, other):
    return sum(response_distance((own[:, :3], own[:, 3:]), (other[:, :3], other[:, 3:])))


def test_gradient_and_precision():
    student, teacher = checks.random_tensor(4, 3, 2, 2), checks.random_tensor(4, 3, 2, 2, seed=1)
    for loss in (instance_distance, instance_relation):
        checks.assert_exact_gradient(loss, student, teacher)
        checks.assert_float32_inside(loss, student, teacher)
    student, teacher = checks.random_tensor(4, 7), checks.random_tensor(4, 7, seed=1)
    checks.assert_exact_gradient(responses, student, teacher)
    checks.assert_float32_inside(responses, student, teacher)


@pytest.mark.parametrize('count', [0, 1, 2])
def test_too_few_instances_have_no_relation(count):
    crops = torch.ones(count, 2, 3, 3)
    checks.assert_zero_that_backpropagates(instance_relation, crops, 2 * crops)


def test_no_instance_is_a_zero():
    none = torch.ones(0, 2, 3, 3)
    checks.assert_zero_that_backpropagates(instance_distance, none, none)
    checks.assert_zero_that_backpropagates(responses, torch.ones(0, 7), torch.ones(0, 7))
    logits, boxes = torch.zeros(0, 2), torch.zeros(0, 4)
    assert general_instances((logits, boxes), (logits, boxes), (8, 8)).shape == (0, 4)


def test_boxes_that_are_not_finite_are_no_instances():
    logits = torch.tensor([[1.0], [-1.0]])
    boxes = torch.tensor([[0.0, 0, torch.nan, 20], [0, 0, 20, 20]])
    assert general_instances((logits, boxes), (-logits, boxes), (64, 64)).tolist() == [[0, 0, 20, 20]]


def test_bad_input_is_named():
    with pytest.raises(ValueError, match='must have one shape'):
        instance_distance(torch.ones(1, 2, 2, 2), torch.ones(1, 2, 2, 3))
    with pytest.raises(ValueError, match='must have one shape'):
        response_distance((torch.ones(1, 2), torch.ones(1, 4)), (torch.ones(1, 3), torch.ones(1, 4)))
