"""The Dice distance of soft masks."""

import pytest
import torch
from torch.autograd import gradcheck

from kddense.losses import SoftDiceLoss, dice_distance

SURE = torch.tensor([[[30.0, -30.0], [30.0, -30.0]]])


def masks(count=3, seed=0, dtype=torch.float64):
    return torch.randn(count, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_values_by_hand():
    """Nothing in common is 1, half of it a third, all of it 0; with squares, also of masks that are not sure."""
    assert dice_distance(-SURE, SURE).item() == pytest.approx(1, abs=1e-5)
    half = torch.tensor([[[30.0, -30.0], [-30.0, -30.0]]])
    assert dice_distance(half, SURE).item() == pytest.approx(1 - 2 / 3)
    assert dice_distance(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)).item() == pytest.approx(0, abs=1e-6)
    assert dice_distance(torch.zeros(1, 2, 2), SURE).item() == pytest.approx(1 - 2 / 3)


def test_it_is_the_mean_over_masks():
    student, teacher = masks(), masks(seed=1)
    found = dice_distance(student, teacher)
    alone = [dice_distance(*pair) for pair in zip(student.split(1), teacher.split(1), strict=True)]
    torch.testing.assert_close(found, torch.stack(alone).mean())
    p, q = student[0].sigmoid(), teacher[0].sigmoid()
    torch.testing.assert_close(
        alone[0], 1 - 2 * (p * q).sum() / (p.square().sum() + q.square().sum()), rtol=1e-5, atol=0
    )


def test_gradients():
    student, teacher = masks().requires_grad_(), masks(seed=1).requires_grad_()
    assert gradcheck(lambda own: dice_distance(own, teacher.detach()), [student])
    dice_distance(student, teacher).backward()
    assert teacher.grad is None


def test_low_precision_is_computed_in_float32():
    low = masks().bfloat16()
    found = SoftDiceLoss()(low, masks(seed=1, dtype=torch.float32))
    assert found.dtype == torch.float32
    assert found == dice_distance(low.float(), masks(seed=1, dtype=torch.float32))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match='student and teacher must have one shape'):
        dice_distance(masks(2), masks(3))
