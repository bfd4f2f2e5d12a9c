"""MGD: which places are missing, a sum by hand, exact gradients, an empty batch."""

import pytest
import torch

from kddense.losses import MGDLoss, generation_distance, without_places

from ..helpers import loss_checks as checks


def test_places_are_missing_in_all_channels():
    features = checks.random_tensor(2, 3, 4, 5)
    numbers = torch.rand(2, 1, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    masked = without_places(features, numbers, 0.65)
    for n in range(2):
        for y in range(4):
            for x in range(5):
                expected = features[n, :, y, x] if numbers[n, 0, y, x] >= 0.65 else torch.zeros(3)
                assert masked[n, :, y, x].tolist() == expected.tolist()


def test_about_a_share_is_missing():
    numbers = torch.rand(1, 1, 100, 100, generator=torch.Generator().manual_seed(0))
    kept = [without_places(torch.ones(1, 1, 100, 100), numbers, share).mean().item() for share in (0, 0.45, 1)]
    assert kept == [1, pytest.approx(0.55, abs=0.02), 0]


def test_a_number_by_hand():
    """(1² + 2²) of the first image and (0² + 3²) of the second, over two images; every place counts."""
    generated = torch.tensor([1.0, 2, 0, 3]).view(2, 1, 1, 2)
    assert MGDLoss()(generated, torch.zeros(2, 1, 1, 2)).item() == (1 + 4 + 9) / 2


def test_it_is_a_sum_by_image():
    generated, teacher = checks.random_tensor(3, 2, 4, 5), checks.random_tensor(3, 2, 4, 5, seed=1)
    pairs = zip(generated.flatten().tolist(), teacher.flatten().tolist(), strict=True)
    assert generation_distance(generated, teacher).item() == pytest.approx(sum((a - b) ** 2 for a, b in pairs) / 3)


def test_gradient_and_precision():
    student, teacher = checks.random_tensor(2, 2, 3, 4), checks.random_tensor(2, 2, 3, 4, seed=1)
    numbers = torch.rand(2, 1, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(own, other):
        return generation_distance(without_places(own, numbers, 0.5), other)

    checks.assert_exact_gradient(loss, student, teacher)
    checks.assert_float32_inside(loss, student, teacher)


def test_an_empty_batch_is_a_zero():
    checks.assert_zero_that_backpropagates(generation_distance, torch.ones(0, 2, 3, 4), torch.ones(0, 2, 3, 4))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match='generated and teacher must have one shape'):
        generation_distance(torch.ones(1, 2, 2, 2), torch.ones(1, 2, 2, 3))
    with pytest.raises(
        ValueError, match=r'a number for each place, \(N, 1, H, W\), got \(1, 2, 3, 3\) and \(1, 3, 3\)'
    ):
        without_places(torch.ones(1, 2, 3, 3), torch.ones(1, 3, 3), 0.5)
    with pytest.raises(ValueError, match='share must be between 0 and 1, got 1.5'):
        without_places(torch.ones(1, 2, 3, 3), torch.ones(1, 1, 3, 3), 1.5)
