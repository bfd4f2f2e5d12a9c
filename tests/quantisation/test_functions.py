"""Rounding of weights: values by hand, plain loops, gradients, and edges."""

import math

import pytest
import torch

from kddense.quantisation import (
    affine,
    bucketed,
    bucketed_bits,
    buckets_of,
    nearest_points,
    percentile_points,
    straight_through,
    symmetric,
    ternary,
    wrpn,
)

FIVE = torch.tensor([-1.0, -0.2, 0.1, 0.9, 0.4])
ALL = {
    'symmetric': lambda weight: symmetric(weight, 4),
    'affine': lambda weight: affine(weight, 4),
    'wrpn': lambda weight: wrpn(weight, 4),
    'ternary': ternary,
    'bucketed': lambda weight: bucketed(weight, 4, 16),
    'points': lambda weight: nearest_points(weight, torch.tensor([0.9, 0.0, 0.4]), 16),
}


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def test_buckets_have_the_values_of_the_reference():
    torch.testing.assert_close(bucketed(FIVE, 2), torch.tensor([-1, -0.366667, 0.266667, 0.9, 0.266667]))
    torch.testing.assert_close(bucketed(FIVE, 2, bucket_size=2), FIVE)  # each is an end of its bucket
    assert bucketed_bits(1024, 2) == 2304
    assert bucketed_bits(1000, 2) == 2000 + 4 * 64  # the last bucket is not full
    assert bucketed_bits(1000, 2, None) == 2064


def test_points_have_the_values_and_gradients_of_the_reference():
    points = torch.tensor([0.0, 0.5, 1.0], requires_grad=True)
    weight = FIVE.clone().requires_grad_()
    quantised = nearest_points(weight, points)
    torch.testing.assert_close(quantised, torch.tensor([-1, -0.05, -0.05, 0.9, -0.05]))
    quantised.backward(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))
    torch.testing.assert_close(points.grad, torch.tensor([1.9, 19.0, 7.6]))
    assert torch.equal(weight.grad, torch.zeros(5))


def test_points_in_any_order_are_the_same():
    points = torch.tensor([1.0, 0.0, 0.5], requires_grad=True)
    nearest_points(FIVE, points).backward(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))
    torch.testing.assert_close(points.grad, torch.tensor([7.6, 1.9, 19.0]))


def test_the_gradient_of_points_is_that_of_the_difference_quotient():
    """As far as no weight changes its point, the result is linear in them."""
    weight, upstream = normal(5, 30), normal(5, 30, seed=1)
    points = torch.tensor([0.1, 0.4, 0.8], requires_grad=True)
    (nearest_points(weight, points, 16) * upstream).sum().backward()
    buckets = buckets_of(weight, 16)
    chosen = (buckets.scaled[..., None] - points.detach()).abs().argmin(-1).flatten()[:150]
    scale = buckets.scale.expand_as(buckets.scaled).flatten()[:150]
    for number in range(3):
        expected = sum(scale[one] * upstream.flatten()[one] for one in range(150) if chosen[one] == number)
        torch.testing.assert_close(points.grad[number], torch.as_tensor(expected))


def test_steps_are_those_of_plain_loops():
    weight = normal(3, 2, 3, 3)
    by_hand = {'symmetric': torch.empty_like(weight), 'affine': torch.empty_like(weight)}
    for channel in range(3):
        values = weight[channel].flatten().tolist()
        step = max(map(abs, values)) / 7
        rounded = [round(one / step) * step for one in values]
        by_hand['symmetric'][channel] = torch.tensor(rounded).view(2, 3, 3)
        low, high = min(*values, 0), max(*values, 0)
        step = (high - low) / 15
        zero = round(-low / step)
        rounded = [(min(max(round(one / step) + zero, 0), 15) - zero) * step for one in values]
        by_hand['affine'][channel] = torch.tensor(rounded).view(2, 3, 3)
    for name, expected in by_hand.items():
        torch.testing.assert_close(ALL[name](weight), expected, rtol=0, atol=1e-5)
    clipped = [max(-1, min(1, one)) for one in weight.flatten().tolist()]
    torch.testing.assert_close(
        wrpn(weight, 4).flatten(), torch.tensor([round(one * 7) / 7 for one in clipped]), rtol=0, atol=1e-6
    )


def test_ternary_is_that_of_plain_loops():
    values = normal(50).tolist()
    limit = 0.7 * sum(map(abs, values)) / 50
    above = [abs(one) for one in values if abs(one) > limit]
    scale = sum(above) / len(above)
    expected = [0 if abs(one) <= limit else math.copysign(scale, one) for one in values]
    torch.testing.assert_close(ternary(torch.tensor(values)), torch.tensor(expected))


def test_buckets_are_those_of_plain_loops():
    values = normal(37).tolist()
    expected = []
    for start in range(0, 37, 8):
        bucket = values[start : start + 8]
        least, scale = min(bucket), max(bucket) - min(bucket)
        expected += [round((one - least) / scale * 7) / 7 * scale + least for one in bucket]
    torch.testing.assert_close(bucketed(torch.tensor(values), 3, 8), torch.tensor(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize('bits', range(1, 9))
def test_there_are_as_many_values_as_bits_can_tell(bits):
    weight = torch.linspace(-1, 1, 6000).view(3000, 2).T.contiguous()
    assert len(bucketed(weight, bits, None).unique()) == 2**bits
    assert max(len(row.unique()) for row in affine(weight, bits)) <= 2**bits
    if bits > 1:
        assert max(len(row.unique()) for row in symmetric(weight, bits)) == 2**bits - 1
        assert len(wrpn(weight, bits).unique()) == 2**bits - 1


def test_output_channels_of_transposed_convolutions_are_their_second_dimension():
    weight = normal(4, 3, 2, 2)
    turned = symmetric(weight.transpose(0, 1), 3).transpose(0, 1)
    assert torch.equal(symmetric(weight, 3, axis=1), turned)
    assert not torch.equal(symmetric(weight, 3), turned)


@pytest.mark.parametrize('name', ['symmetric', 'ternary', 'bucketed'])
def test_gradients_pass_straight_through(name):
    weight, upstream = normal(4, 9).requires_grad_(), normal(4, 9, seed=1)
    ALL[name](weight).backward(upstream)
    assert torch.equal(weight.grad, upstream)


def test_clipped_weights_get_no_gradient():
    weight = torch.tensor([-1.5, -0.9, 0.2, 1.001, 3.0], requires_grad=True)
    wrpn(weight, 4).sum().backward()
    assert weight.grad.tolist() == [0, 1, 1, 0, 0]


def test_straight_through_gives_the_quantised_values_to_the_last_bit():
    weight, quantised = normal(1000).requires_grad_(), normal(1000, seed=1)
    assert torch.equal(straight_through(weight, quantised), quantised)
    assert not torch.equal(weight + (quantised - weight).detach(), quantised)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize('name', ALL)
def test_edges_have_finite_values_and_gradients(name, dtype):
    """Nothing, one weight, weights that are equal, zeros, and weights near the least float; autocast changes nothing."""
    quantise = ALL[name]
    few = [normal(0, 3), normal(1, 1), torch.full((2, 5), 0.3), torch.zeros(3, 4), torch.full((2, 2), 1e-40)]
    for plain in few:
        weight = plain.to(dtype).requires_grad_()
        quantised = quantise(weight)
        assert quantised.dtype == dtype
        assert quantised.shape == weight.shape
        assert torch.isfinite(quantised).all()
        quantised.sum().backward()
        assert torch.isfinite(weight.grad).all()
        with torch.autocast('cpu', torch.bfloat16):
            assert torch.equal(quantise(weight), quantised)
    assert not quantise(torch.zeros(3, 4, dtype=dtype)).any()


@pytest.mark.parametrize('name', ['bucketed', 'affine'])
def test_equal_weights_stay_as_they_are(name):
    torch.testing.assert_close(ALL[name](torch.full((2, 5), 0.3)), torch.full((2, 5), 0.3), rtol=0, atol=1e-6)


def test_stochastic_rounding_is_right_in_the_mean_and_takes_neighbours():
    weight, numbers = normal(20), torch.Generator().manual_seed(0)
    step = (weight.max() - weight.min()) / 3
    drawn = torch.stack([bucketed(weight, 2, None, torch.rand(20, generator=numbers)) for _ in range(4000)])
    assert ((drawn - weight).abs() < step + 1e-6).all()
    torch.testing.assert_close(drawn.mean(0), weight, rtol=0, atol=0.05)
    assert drawn.std(0).max() > 0.1
    before = torch.get_rng_state()
    bucketed(weight, 2, None, torch.rand(20, generator=numbers))
    assert torch.equal(torch.get_rng_state(), before)


def test_points_begin_at_percentiles():
    import numpy as np

    weight = normal(333)
    scaled = buckets_of(weight, 50).scaled.flatten()[:333].numpy()
    expected = torch.tensor(np.percentile(scaled, np.linspace(0, 100, 8)), dtype=torch.float32)
    torch.testing.assert_close(percentile_points(weight, 8, 50), expected)
    assert percentile_points(torch.ones(1), 4).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    'wrong, message',
    [
        (lambda: symmetric(FIVE[None], 1), 'bits must be 2 to 8 for symmetric steps, got 1'),
        (lambda: affine(FIVE[None], 9), 'bits must be 1 to 8, got 9'),
        (lambda: wrpn(FIVE, 0), 'bits must be 2 to 8 for WRPN, got 0'),
        (lambda: bucketed(FIVE, 0), 'bits must be 1 to 8, got 0'),
        (lambda: bucketed(FIVE, 2.5), 'bits must be a whole number, got 2.5'),
        (lambda: bucketed(FIVE, True), 'bits must be a whole number, got True'),
        (lambda: wrpn(FIVE, '4'), "bits must be a whole number, got '4'"),
        (lambda: bucketed(FIVE, 2, 1.5), 'bucket_size must be at least 1, or None for one bucket a layer, got 1.5'),
        (lambda: bucketed(FIVE, 2, 0), 'bucket_size must be at least 1, or None for one bucket a layer, got 0'),
        (lambda: bucketed(FIVE, 2, None, torch.rand(3)), 'numbers must be as many as weights, 5, got 3'),
        (lambda: ternary(FIVE, -1), 'threshold must be at least 0, got -1'),
        (lambda: nearest_points(FIVE, torch.zeros(0)), r'points must be a row of at least one, got shape \(0,\)'),
        (lambda: percentile_points(FIVE, 0), 'count must be at least 1, got 0'),
        (lambda: ternary(torch.arange(3)), 'weight must be floating, got torch.int64'),
    ],
)
def test_bad_input_is_one_sentence(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


@pytest.mark.parametrize('count', [1, 2, 16, 17, 18, 256])
def test_the_nearest_of_few_points_and_of_many_is_that_of_all_distances(count):
    weight, points = normal(7, 100), torch.rand(count, generator=torch.Generator().manual_seed(1)).sort().values
    buckets = buckets_of(weight, None)
    nearest = points[(buckets.scaled[..., None] - points).abs().argmin(-1)]
    expected = (nearest * buckets.scale + buckets.least).view_as(weight)
    torch.testing.assert_close(nearest_points(weight, points, None), expected)
