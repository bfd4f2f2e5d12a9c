"""FGD's focal terms: numbers by hand, loops as reference, boxes on grids, images without boxes."""

import itertools
import math

import pytest
import torch

from kddense.losses import (
    FGDLoss,
    attention_difference,
    channel_attention,
    focal_distance,
    focal_masks,
    spatial_attention,
)

from ..helpers import loss_checks as checks

FEATURES = torch.tensor([[[[1.0, 0], [0, 1]], [[1, 2], [0, 1]]]], dtype=torch.float64)


def masks(count=2, size=(3, 4)):
    boxes = [torch.tensor([[4.0, 4.0, 20.0, 12.0], [0, 0, 7, 7]])] * count
    return focal_masks(boxes, [(24, 32)] * count, size)


def test_attention_by_hand():
    places = torch.tensor([1.275781, 1.275781, 0.172658, 1.275781], dtype=torch.float64)
    channels = torch.tensor([0.537883, 1.462117], dtype=torch.float64)
    torch.testing.assert_close(spatial_attention(FEATURES).flatten(), places, atol=1e-6, rtol=0)
    torch.testing.assert_close(channel_attention(FEATURES).flatten(), channels, atol=1e-6, rtol=0)


def test_boxes_on_a_grid_by_hand():
    """Both boxes cover three cells by three; the second is cut off by the map's edge, and counts as if it were not."""
    boxes = torch.tensor([[0.0, 0, 15, 15], [16, 16, 30, 30]])
    foreground, background = focal_masks([boxes], [(32, 32)], (4, 4))
    covered = torch.zeros(4, 4)
    covered[:3, :3] = 1
    covered[2:, 2:] = 1
    torch.testing.assert_close(foreground[0, 0], covered / 9)
    torch.testing.assert_close(background[0, 0], (1 - covered) / 4)
    assert int((background > 0).sum()) == 4


def test_the_smallest_box_counts():
    boxes = torch.tensor([[0.0, 0, 24, 24], [8, 8, 16, 16]])
    foreground, background = focal_masks([boxes], [(64, 64)], (8, 8))
    assert foreground[0, 0, 0, 0] == pytest.approx(1 / 16)
    assert foreground[0, 0, 1, 1] == pytest.approx(1 / 4)
    assert float(background.sum()) == pytest.approx(1)
    assert not (foreground * background).any()


def test_width_and_height_are_not_mixed_up():
    foreground, _ = focal_masks([torch.tensor([[16.0, 0, 30, 7]])], [(16, 64)], (2, 8))
    expected = torch.zeros(2, 8)
    expected[0:2, 2:5] = 1 / 6
    torch.testing.assert_close(foreground[0, 0], expected)


def test_images_without_boxes_and_covered_ones():
    boxes = [torch.zeros(0, 4), torch.tensor([[0.0, 0, 32, 32]])]
    foreground, background = focal_masks(boxes, [(32, 32)] * 2, (4, 4))
    assert not foreground[0].any()
    torch.testing.assert_close(background[0], torch.full((1, 4, 4), 1 / 16))
    assert foreground[1].all()
    assert not background[1].any()
    assert focal_masks([], [], (4, 4))[0].shape == (0, 1, 4, 4)


def attention_in_loops(features):
    """Return both attentions of one image, nested lists in, by the paper's formulas."""
    channels, rows, columns = len(features), len(features[0]), len(features[0][0])
    means = [
        [sum(abs(features[c][y][x]) for c in range(channels)) / channels for x in range(columns)] for y in range(rows)
    ]
    exps = [[math.exp(value / 0.5) for value in row] for row in means]
    total = sum(map(sum, exps))
    places = [[rows * columns * value / total for value in row] for row in exps]
    strengths = [math.exp(sum(map(abs, itertools.chain(*channel))) / rows / columns / 0.5) for channel in features]
    return places, [channels * value / sum(strengths) for value in strengths]


def test_terms_are_those_of_loops():
    student, teacher = checks.random_tensor(2, 3, 3, 4), checks.random_tensor(2, 3, 3, 4, seed=1)
    foreground, background = masks()
    expected = [0.0, 0.0, 0.0]
    for n in range(2):
        own, other = student[n].tolist(), teacher[n].tolist()
        (own_places, own_channels), (places, channels) = attention_in_loops(own), attention_in_loops(other)
        expected[2] += sum(abs(a - b) for a, b in zip(own_channels, channels, strict=True)) / 2
        for y in range(3):
            for x in range(4):
                expected[2] += abs(own_places[y][x] - places[y][x]) / 2
                for c in range(3):
                    error = places[y][x] * channels[c] * (own[c][y][x] - other[c][y][x]) ** 2 / 2
                    expected[0] += error * foreground[n, 0, y, x].item()
                    expected[1] += error * background[n, 0, y, x].item()
    assert [term.item() for term in FGDLoss()(student, teacher, foreground, background)] == pytest.approx(expected)


def test_gradient_and_precision():
    student, teacher = checks.random_tensor(2, 2, 3, 4), checks.random_tensor(2, 2, 3, 4, seed=1)
    foreground, _ = masks()
    for loss in (lambda own, other: focal_distance(own, other, foreground), attention_difference):
        checks.assert_exact_gradient(loss, student, teacher)
        checks.assert_float32_inside(loss, student, teacher)


def test_twins_have_no_loss():
    teacher = checks.random_tensor(2, 2, 3, 4)
    assert [term.item() for term in FGDLoss()(teacher.clone(), teacher, *masks())] == [0, 0, 0]


def test_an_empty_batch_is_a_zero():
    none = torch.ones(0, 2, 3, 4)
    foreground, background = masks(0)
    checks.assert_zero_that_backpropagates(lambda s, t: sum(FGDLoss()(s, t, foreground, background)), none, none)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match='must have one shape'):
        attention_difference(torch.ones(1, 2, 2, 2), torch.ones(1, 2, 2, 3))
    with pytest.raises(ValueError, match=r'maps of shape \(N, C, H, W\), got \(2, 2\)'):
        channel_attention(torch.ones(2, 2))
    with pytest.raises(ValueError, match='temperature must be above 0, got 0'):
        FGDLoss(0)
