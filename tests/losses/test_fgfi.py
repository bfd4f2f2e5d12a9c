"""FGFI: numbers by hand, loops as reference, exact gradients, no place at all."""

import pytest
import torch

from kddense.losses import MaskedImitationLoss, masked_imitation, near_object_mask

from ..helpers import loss_checks as checks

TEACHER = torch.tensor([[1.0, 2], [3, 4]]).view(1, 1, 2, 2)
MASK = torch.tensor([[0.0, 1], [1, 0]]).view(1, 1, 2, 2)


def test_a_number_by_hand():
    """(1² + 2²) / (2 · 2) at the two places that count."""
    student = torch.ones(1, 1, 2, 2)
    assert masked_imitation(student, TEACHER, MASK).item() == 1.25
    assert MaskedImitationLoss()(student, TEACHER, MASK, average=10).item() == 0.25


def test_it_is_a_sum_over_channels():
    student, teacher = checks.random_tensor(2, 3, 4, 5), checks.random_tensor(2, 3, 4, 5, seed=1)
    mask = (checks.random_tensor(2, 1, 4, 5, seed=2) > 0).double()
    expected = 0.0
    for n in range(2):
        for y in range(4):
            for x in range(5):
                if mask[n, 0, y, x]:
                    expected += sum((student[n, c, y, x] - teacher[n, c, y, x]).item() ** 2 for c in range(3))
    assert masked_imitation(student, teacher, mask).item() == pytest.approx(expected / (2 * mask.sum().item()))


def iou(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    inside = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return inside / (sum(areas) - inside)


@pytest.mark.parametrize('threshold', [0.0, 0.5, 0.9])
def test_places_are_those_of_a_loop(threshold):
    """Two anchors at each place of a map of 5 x 6, three boxes."""
    sides = torch.tensor([[-6.0, -6, 6, 6], [-4, -8, 4, 8]])
    centres = torch.cartesian_prod(torch.arange(5.0), torch.arange(6.0)).flip(1) * 8 + 4
    anchors = (torch.cat([centres, centres], dim=1)[:, None] + sides).flatten(0, 1)
    boxes = torch.tensor([[3.0, 3, 15, 17], [20, 5, 40, 30], [0, 30, 9, 40]])
    expected = torch.zeros(5, 6, dtype=torch.bool)
    for box in boxes.tolist():
        overlaps = [iou(anchor, box) for anchor in anchors.tolist()]
        for number, overlap in enumerate(overlaps):
            place = number // 2
            expected[place // 6, place % 6] |= overlap > threshold * max(overlaps) + 1e-9
    found = near_object_mask(anchors, boxes, (5, 6), threshold)
    assert torch.equal(found, expected)
    assert 0 < int(found.sum()) < 30


def test_no_box_and_boxes_out_of_reach():
    anchors = torch.tensor([[0.0, 0, 4, 4], [4, 0, 8, 4]])
    assert not near_object_mask(anchors, torch.zeros(0, 4), (1, 2)).any()
    assert not near_object_mask(anchors, torch.tensor([[50.0, 50, 60, 60]]), (1, 2)).any()


def test_gradient_and_precision():
    student, teacher = checks.random_tensor(1, 2, 2, 2), checks.random_tensor(1, 2, 2, 2, seed=1)

    def loss(own, other):
        return masked_imitation(own, other, MASK)

    checks.assert_exact_gradient(loss, student, teacher)
    checks.assert_float32_inside(loss, student, teacher)


def test_no_place_is_a_zero():
    checks.assert_zero_that_backpropagates(lambda s, t: masked_imitation(s, t, 0 * MASK), TEACHER + 1, TEACHER)
    none = torch.ones(0, 2, 3, 3)
    checks.assert_zero_that_backpropagates(lambda s, t: masked_imitation(s, t, none[:, :1]), none, none)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match='must have one shape'):
        masked_imitation(torch.ones(1, 2, 2, 2), torch.ones(1, 2, 2, 3), MASK)
    with pytest.raises(ValueError, match=r'with a mask \(N, 1, H, W\), got \(1, 1, 2, 2\) and \(2, 2\)'):
        masked_imitation(TEACHER, TEACHER, MASK[0, 0])
    with pytest.raises(ValueError, match='5 anchors are not as many at each place of a map of 2 x 2'):
        near_object_mask(torch.ones(5, 4), torch.ones(1, 4), (2, 2))
    with pytest.raises(ValueError, match='threshold must be between 0 and 1, got 2'):
        near_object_mask(torch.ones(4, 4), torch.ones(1, 4), (2, 2), threshold=2)
