"""Depth up to scale and shift: numbers by hand, numpy as reference, what does not depend on what, what is left out."""

import numpy as np
import pytest
import torch

from kddense.losses import (
    DepthGradientLoss,
    ScaleShiftInvariantLoss,
    depth_gradient_distance,
    scale_shift_invariant_distance,
)

from ..helpers import loss_checks as checks

DISTANCES = {
    'robust': lambda *maps: scale_shift_invariant_distance(*maps, trim=0),
    'trimmed': scale_shift_invariant_distance,
    'least squares': lambda *maps: scale_shift_invariant_distance(*maps, align='least_squares'),
    'gradients': depth_gradient_distance,
    'gradients, least squares': lambda *maps: depth_gradient_distance(*maps, align='least_squares'),
    'gradients as printed': lambda *maps: depth_gradient_distance(*maps, mode='paper'),
}
every = pytest.mark.parametrize('distance', DISTANCES.values(), ids=DISTANCES)


def as_map(*values, rows=1):
    return torch.tensor(values, dtype=torch.float64).view(1, 1, rows, -1)


def normalised(values):
    centred = values - np.median(values)
    return centred / np.abs(centred).mean()


def test_a_number_by_hand():
    """Normalised, the maps are (-1.5, -0.5, 0.5, 1.5) and (-1.5, 0.5, -0.5, 1.5)."""
    student, teacher = as_map(1, 2, 3, 4), as_map(1, 3, 2, 4)
    assert scale_shift_invariant_distance(student, teacher, trim=0).item() == pytest.approx(0.25, abs=1e-12)
    assert ScaleShiftInvariantLoss(trim=0)(student, teacher).item() == pytest.approx(0.25, abs=1e-12)


@pytest.mark.parametrize('trim, expected', [(None, 1 / 8), (0.2, 1 / 8), (0.25, 1 / 8), (0.5, 0), (0, 2 / 8)])
def test_what_differs_most_is_left_out_by_hand(trim, expected):
    """Of the differences (0, 0, 1, 1) of four pixels the least 3 (of 3.2), 3, 2 and 4 count; they are divided by 2 x 4."""
    student, teacher = as_map(1, 2, 3, 4), as_map(1, 3, 2, 4)
    found = (
        scale_shift_invariant_distance(student, teacher, trim=trim),
        ScaleShiftInvariantLoss(trim=trim)(student, teacher),
    )
    assert [one.item() for one in found] == [pytest.approx(expected, abs=1e-12)] * 2


def test_a_fifth_of_five_is_one():
    """Normalised by 2 and 6/5, and by 2 and 9/5: the last pixel differs most."""
    student, teacher = as_map(0, 1, 2, 3, 4), as_map(0, 1, 2, 3, 7)
    rest = [abs((s - 2) / 1.2 - (t - 2) / 1.8) for s, t in ((0, 0), (1, 1), (2, 2), (3, 3), (4, 7))]
    expected = sum(sorted(rest)[:4]) / 10
    assert max(rest) == rest[-1]
    assert scale_shift_invariant_distance(student, teacher).item() == pytest.approx(expected, abs=1e-12)


def test_crops_by_hand():
    """A step between the halves counts in the whole map, not within the halves, each with its own median and scale."""
    student, teacher = as_map(1, 2, 3, 11, 12, 14), as_map(1, 2, 3, 4, 5, 7)
    crops = [torch.cat([one[..., :3], one[..., 3:]]) for one in (student, teacher)]
    assert scale_shift_invariant_distance(*crops, trim=0).item() == pytest.approx(0, abs=1e-12)
    # Whole: medians 7 and 3.5, scales 31/6 and 10/6.
    rest = [
        abs((s - 7) * 6 / 31 - (t - 3.5) * 6 / 10)
        for s, t in zip((1, 2, 3, 11, 12, 14), (1, 2, 3, 4, 5, 7), strict=True)
    ]
    assert scale_shift_invariant_distance(student, teacher, trim=0).item() == pytest.approx(sum(rest) / 12, abs=1e-12)


def test_least_squares_by_hand():
    """The best line through (1, 2, 3, 4) for (-1.5, 0.5, -0.5, 1.5) has the slope 0.8; what is left is squared."""
    student, teacher = as_map(1, 2, 3, 4), as_map(1, 3, 2, 4)
    rest = [0.8 * s - t for s, t in zip((-1.5, -0.5, 0.5, 1.5), (-1.5, 0.5, -0.5, 1.5), strict=True)]
    expected = pytest.approx(sum(one**2 for one in rest) / 8, abs=1e-12)
    assert scale_shift_invariant_distance(student, teacher, align='least_squares').item() == expected
    assert ScaleShiftInvariantLoss('least_squares')(student, teacher).item() == expected


def test_slopes_by_hand():
    """What is left is (0, -1, 1, 0): slopes 1, 2, 1 of four pixels, then 1 of two; one pixel has none."""
    student, teacher = as_map(1, 2, 3, 4), as_map(1, 3, 2, 4)
    assert depth_gradient_distance(student, teacher).item() == pytest.approx(4 / 4 + 1 / 2, abs=1e-12)
    assert depth_gradient_distance(student, teacher, scales=1).item() == pytest.approx(1, abs=1e-12)
    assert depth_gradient_distance(student, teacher, mode='paper').item() == pytest.approx(5 / 4, abs=1e-12)
    assert DepthGradientLoss(scales=2, mode='paper')(student, teacher).item() == pytest.approx(5 / 4, abs=1e-12)


@pytest.mark.parametrize('seed', range(3))
def test_numpy_agrees(seed):
    student, teacher = checks.random_tensor(3, 1, 7, 9, seed=seed), checks.random_tensor(3, 1, 7, 9, seed=seed + 9)
    valid = checks.random_tensor(3, 1, 7, 9, seed=seed + 20) > -0.5
    robust, trimmed, squares, slopes = [], [], [], []
    for own, other, kept in zip(student.numpy()[:, 0], teacher.numpy()[:, 0], valid.numpy()[:, 0], strict=True):
        s, t = normalised(own[kept]), normalised(other[kept])
        robust.append(np.abs(s - t).sum() / (2 * kept.sum()))
        trimmed.append(np.sort(np.abs(s - t))[: int(0.8 * kept.sum())].sum() / (2 * kept.sum()))
        line = np.polyval(np.polyfit(own[kept], t, 1), own[kept])
        squares.append(np.square(line - t).sum() / (2 * kept.sum()))
        rest = np.full(own.shape, np.nan)
        rest[kept] = s - t
        total = 0.0
        for scale in range(4):
            part = rest[:: 2**scale, :: 2**scale]
            known = max(np.isfinite(part).sum(), 1)
            total += sum(np.nansum(np.abs(np.diff(part, axis=axis))) for axis in (0, 1)) / known
        slopes.append(total)
    assert abs(scale_shift_invariant_distance(student, teacher, valid, trim=0).item() - np.mean(robust)) < 1e-9
    assert abs(scale_shift_invariant_distance(student, teacher, valid).item() - np.mean(trimmed)) < 1e-9
    found = scale_shift_invariant_distance(student, teacher, valid, 'least_squares').item()
    assert abs(found - np.mean(squares)) < 1e-9
    assert abs(depth_gradient_distance(student, teacher, valid).item() - np.mean(slopes)) < 1e-9


@every
def test_scale_and_shift_do_not_count(distance):
    student, teacher = checks.random_tensor(2, 1, 5, 6), checks.random_tensor(2, 1, 5, 6, seed=1)
    expected = distance(student, teacher)
    assert expected > 0.01
    torch.testing.assert_close(distance(3 * student - 7, 0.25 * teacher + 100), expected)
    torch.testing.assert_close(distance(4 * teacher + 3, teacher), torch.zeros_like(expected), atol=1e-12, rtol=0)


@pytest.mark.parametrize('name', [name for name in DISTANCES if name != 'gradients, least squares'])
def test_a_student_that_is_right_rests(name):
    """Absolute slopes behind a fitted line have the sign of its rounding, so that they are left out here."""
    distance = DISTANCES[name]
    teacher = as_map(1, 2, 4, 8, 16, 32, 64, 128, 256, rows=3)
    student = (2 * teacher + 4).requires_grad_()
    value = distance(student, teacher)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert student.grad.abs().max() < 1e-9


@every
def test_gradient_and_precision(distance):
    student, teacher = checks.random_tensor(2, 1, 4, 5), checks.random_tensor(2, 1, 4, 5, seed=1)
    checks.assert_exact_gradient(distance, student, teacher)
    checks.assert_float32_inside(distance, student, teacher)


@every
def test_what_is_not_valid_does_not_count(distance):
    student, teacher = checks.random_tensor(2, 1, 6, 6), checks.random_tensor(2, 1, 6, 6, seed=1)
    valid = torch.ones_like(student, dtype=torch.bool)
    valid[:, :, 4:] = False
    expected = distance(student, teacher, valid)
    student[:, :, 4:], teacher[:, :, 4:] = 1e9, -1e9
    own = student.clone().requires_grad_()
    value = distance(own, teacher, valid)
    value.backward()
    torch.testing.assert_close(value, expected)
    assert not own.grad[:, :, 4:].any()


@every
@pytest.mark.parametrize('teacher, valid', [(torch.full((1, 1, 4, 4), 3.0), None), (torch.rand(1, 1, 4, 4), False)])
def test_a_teacher_without_a_scale_is_a_zero(distance, teacher, valid):
    valid = None if valid is None else torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    checks.assert_zero_that_backpropagates(
        lambda own, other: distance(own, other, valid), torch.rand(1, 1, 4, 4), teacher
    )


@every
def test_such_an_image_leaves_the_others_alone(distance):
    student, teacher = checks.random_tensor(2, 1, 4, 4), checks.random_tensor(2, 1, 4, 4, seed=1)
    expected = distance(student[:1], teacher[:1])
    teacher[1] = 2.0
    torch.testing.assert_close(distance(student, teacher), expected)


@every
def test_a_constant_student_is_finite(distance):
    student = torch.full((1, 1, 4, 4), 5.0, requires_grad=True)
    value = distance(student, torch.rand(1, 1, 4, 4))
    value.backward()
    assert value > 0
    assert student.grad.isfinite().all()


@every
def test_no_image_is_a_zero(distance):
    checks.assert_zero_that_backpropagates(distance, torch.ones(0, 1, 4, 4), torch.ones(0, 1, 4, 4))


@pytest.mark.parametrize(
    'call, sentence',
    [
        (lambda one: scale_shift_invariant_distance(one, one[:, :, :2]), 'must have one shape'),
        (lambda one: scale_shift_invariant_distance(one[0], one[0]), r'maps of shape \(N, 1, H, W\), got \(1, 4, 4\)'),
        (lambda one: scale_shift_invariant_distance(one, one, one), 'valid must be boolean, of shape'),
        (lambda one: scale_shift_invariant_distance(one, one, align='median'), "align must be one of 'robust', 'least"),
        (lambda one: depth_gradient_distance(one, one, mode='text'), "mode must be one of 'code', 'paper'"),
        (lambda one: depth_gradient_distance(one, one, scales=0), 'scales must be above 0'),
        (lambda one: ScaleShiftInvariantLoss('median'), 'align must be one of'),
        (
            lambda one: ScaleShiftInvariantLoss(trim=1.0),
            'trim must be a share of the pixels, at least 0 and below 1, got 1',
        ),
        (lambda one: scale_shift_invariant_distance(one, one, trim=-0.1), 'trim must be a share'),
        (lambda one: DepthGradientLoss(scales=0), 'scales must be above 0'),
    ],
)
def test_bad_input_is_named(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(torch.rand(1, 1, 4, 4))
