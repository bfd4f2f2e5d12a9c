"""What a depth estimator learns from its ground truth: values by hand, loops, gradients, unknown pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kddense.losses import (
    LogL1Loss,
    OrderedCrossEntropyLoss,
    VirtualNormalLoss,
    log_l1,
    ordered_cross_entropy,
    virtual_normal_distance,
)

FOCAL = 0.81


def plane(height=12, width=16, tilt=0.0, distance=4.0, dtype=torch.float64):
    """Return the depth of a plane that leans away to the right, shape ``(1, 1, H, W)``."""
    x = (torch.arange(width, dtype=dtype) + 0.5 - width / 2) / (FOCAL * width)
    return (distance / (1 - tilt * x)).expand(1, 1, height, width).clone()


def room(seed=0, size=(2, 1, 12, 16)):
    """Return rough depths between 1 and 9 metres."""
    return 1 + 8 * torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_log_l1_by_hand():
    prediction = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)

    value = log_l1(prediction, torch.tensor([math.e, 2.0, 0.0], dtype=torch.float64))

    assert value.item() == pytest.approx(0.5)


def test_ordered_cross_entropy_by_a_loop():
    logits = torch.randn(2, 6, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bins = torch.tensor([[[0, 5, 2], [3, -1, 1]], [[4, 4, -1], [0, 1, 2]]])
    total, count = 0.0, 0
    for image, truth in zip(logits.numpy(), bins.numpy(), strict=True):
        for row, column in np.ndindex(2, 3):
            if truth[row, column] < 0:
                continue
            z = image[:, row, column]
            log_p = z - np.log(np.exp(z).sum())
            total -= sum(math.exp(-0.2 * (b - truth[row, column]) ** 2) * log_p[b] for b in range(6))
            count += 1

    assert ordered_cross_entropy(logits, bins).item() == pytest.approx(total / count)


def test_sharp_credit_is_plain_cross_entropy():
    logits = torch.randn(2, 6, 2, 3, generator=torch.Generator().manual_seed(0))
    bins = torch.randint(6, (2, 2, 3), generator=torch.Generator().manual_seed(1))

    torch.testing.assert_close(
        ordered_cross_entropy(logits, bins, sharpness=100.0), torch.nn.functional.cross_entropy(logits, bins)
    )


def test_a_near_miss_costs_less():
    near, far = torch.zeros(1, 10, 1, 1), torch.zeros(1, 10, 1, 1)
    near[0, 3], far[0, 9] = 5.0, 5.0
    truth = torch.tensor([[[2]]])

    assert ordered_cross_entropy(near, truth) < ordered_cross_entropy(far, truth)
    assert ordered_cross_entropy(near, truth, sharpness=100.0) == ordered_cross_entropy(far, truth, sharpness=100.0)


def virtual_normals_by_loop(prediction, target, picked, least=30.0, greatest=120.0, apart=0.6, keep=0.75):
    def point(depth, index):
        row, column = divmod(int(index), depth.shape[1])
        x = (column + 0.5 - depth.shape[1] / 2) / (FOCAL * depth.shape[1])
        y = (row + 0.5 - depth.shape[0] / 2) / (FOCAL * depth.shape[1])
        return depth[row, column] * np.array([x, y, 1.0])

    def angle(u, v):
        return math.degrees(math.acos(np.clip(u @ v / np.linalg.norm(u) / np.linalg.norm(v), -1, 1)))

    def normal(a, b, c):
        n = np.cross(b - a, c - a)
        return n / np.linalg.norm(n)

    distances = []
    for guess, truth in zip(prediction.numpy()[:, 0], target.numpy()[:, 0], strict=True):
        for triple in picked.T:
            if any(truth.flat[int(index)] <= 0 for index in triple):
                continue
            a, b, c = (point(truth, index) for index in triple)
            if min(np.linalg.norm(a - b), np.linalg.norm(a - c), np.linalg.norm(b - c)) <= apart:
                continue
            corners = angle(b - a, c - a), angle(a - b, c - b)
            if all(least <= corner <= greatest for corner in corners):
                guessed = normal(*(point(guess, index) for index in triple))
                distances.append(np.abs(guessed - normal(a, b, c)).sum())
    hardest = sorted(distances, reverse=True)[: round(keep * len(distances))]
    return sum(hardest) / len(hardest), len(distances)


def test_virtual_normals_by_a_loop():
    prediction, target = room(0), room(1)
    target[0, 0, :4] = 0
    torch.manual_seed(3)
    picked = torch.randint(12 * 16, (3, 96))
    torch.manual_seed(3)

    value = virtual_normal_distance(prediction, target, FOCAL, sample_ratio=0.5)

    wanted, triples = virtual_normals_by_loop(prediction, target, picked)
    assert 20 < triples < 192  # some were left out
    assert value.item() == pytest.approx(wanted, rel=1e-9)


def test_virtual_normals_of_a_plane():
    """A plane farther away has the same normals; a tilted one has others, by the angle between them."""
    target = plane()

    assert virtual_normal_distance(plane(distance=7.0), target, FOCAL).item() == pytest.approx(0, abs=1e-9)
    tilted = virtual_normal_distance(plane(tilt=0.5), target, FOCAL).item()
    leaning = np.array([-0.5, 0, 1]) / math.hypot(0.5, 1)
    assert tilted == pytest.approx(np.abs(leaning - [0, 0, 1]).sum(), rel=1e-6)


@pytest.mark.parametrize('loss', [log_l1, lambda p, t: virtual_normal_distance(p, t, FOCAL, 0.5)])
def test_gradients(loss):
    prediction, target = room(0, (1, 1, 6, 8)), room(1, (1, 1, 6, 8))
    target[0, 0, 0] = 0

    def fixed(value):
        torch.manual_seed(0)
        return loss(value, target)

    assert torch.autograd.gradcheck(fixed, prediction.requires_grad_())


def test_the_gradient_of_ordered_cross_entropy():
    logits = torch.randn(1, 4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    bins = torch.tensor([[[0, 3], [-1, 2]]])

    assert torch.autograd.gradcheck(lambda z: ordered_cross_entropy(z, bins), logits.requires_grad_())


@pytest.mark.parametrize('loss', [LogL1Loss(), VirtualNormalLoss(focal_length=FOCAL)])
def test_no_known_pixel_is_a_zero_that_back_propagates(loss):
    prediction = room().requires_grad_()

    loss(prediction, torch.zeros_like(prediction)).backward()

    assert not prediction.grad.any()


def test_no_known_bin_is_a_zero_that_back_propagates():
    logits = torch.randn(1, 4, 2, 2, requires_grad=True)

    OrderedCrossEntropyLoss()(logits, torch.full((1, 2, 2), -1)).backward()

    assert not logits.grad.any()


def test_unknown_pixels_do_not_matter():
    prediction, target = room(0), room(1)
    target[:, :, :5] = 0
    other = prediction.clone()
    other[:, :, :5] = 3.3
    for loss in (LogL1Loss(), VirtualNormalLoss(focal_length=FOCAL)):
        torch.manual_seed(0)
        value = loss(prediction, target)
        torch.manual_seed(0)
        torch.testing.assert_close(loss(other, target), value)


def test_half_precision_is_widened():
    prediction, target = room(0).half(), room(1).half()

    assert log_l1(prediction, target).dtype == torch.float32
    assert ordered_cross_entropy(torch.zeros(1, 4, 1, 1).bfloat16(), torch.tensor([[[1]]])).dtype == torch.float32
    torch.manual_seed(0)
    half = virtual_normal_distance(prediction, target, FOCAL)
    torch.manual_seed(0)
    torch.testing.assert_close(half, virtual_normal_distance(prediction.float(), target.float(), FOCAL))


def test_weights_and_names():
    prediction, target = room(0), room(1)

    torch.testing.assert_close(LogL1Loss(loss_weight=3.0)(prediction, target), 3 * log_l1(prediction, target))
    assert VirtualNormalLoss(loss_name='loss_normals').loss_name == 'loss_normals'
    weighted = OrderedCrossEntropyLoss(loss_weight=2.0, sharpness=1.0)(
        torch.eye(4).view(1, 4, 4, 1), torch.ones(1, 4, 1).long()
    )
    plain = ordered_cross_entropy(torch.eye(4).view(1, 4, 4, 1), torch.ones(1, 4, 1).long(), sharpness=1.0)
    torch.testing.assert_close(weighted, 2 * plain)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: log_l1(torch.ones(3), torch.ones(2)), 'prediction and target must have one shape'),
        (lambda: ordered_cross_entropy(torch.ones(1, 4, 2, 2), torch.ones(1, 2, 3).long()), 'must fit'),
        (lambda: OrderedCrossEntropyLoss(sharpness=0), 'sharpness must be above 0'),
        (lambda: virtual_normal_distance(torch.ones(1, 3, 4, 4), torch.ones(1, 3, 4, 4)), r'\(N, 1, H, W\)'),
        (lambda: VirtualNormalLoss(focal_length=0), 'focal_length must be above 0'),
        (lambda: VirtualNormalLoss(min_distance=-1), 'min_distance must be at least 0'),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
