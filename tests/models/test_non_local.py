"""The non-local operation: the plain form as reference, pooling, its first value, autocast."""

import pytest
import torch
from torch.nn import functional as F

from kddense import NonLocalBlock

from ..helpers import loss_checks as checks


def block(*arguments):
    layer = NonLocalBlock(*arguments)
    torch.nn.init.ones_(layer.out[1].weight)
    return layer.double().eval()


@pytest.mark.parametrize('pool, kernel', [(1, (1, 1)), (2, (2, 2)), (8, (4, 6))])
def test_agrees_with_the_plain_form(pool, kernel):
    """With the matrix of all pairs of places."""
    layer = block(4, 2, pool)
    x, reference = checks.random_tensor(2, 4, 3, 5), checks.random_tensor(2, 4, 4, 6, seed=1)
    keys, values = (F.max_pool2d(one(reference), kernel).flatten(2) for one in (layer.phi, layer.g))
    pairs = layer.theta(x).flatten(2).transpose(1, 2) @ keys / keys.shape[2]
    told = (pairs @ values.transpose(1, 2)).transpose(1, 2).view(2, 2, 3, 5)
    expected = x + layer.out(told)
    # The sum runs in float32.
    torch.testing.assert_close(layer.float()(x.float(), reference.float()), expected.float(), rtol=1e-4, atol=1e-5)


def test_at_first_it_changes_nothing_and_its_own_map_is_the_reference():
    x = checks.random_tensor(2, 6, 3, 3, dtype=torch.float32)
    assert torch.equal(NonLocalBlock(6)(x), x)
    layer = block(6).float()
    assert torch.equal(layer(x), layer(x, x))
    assert not torch.equal(layer(x), x)


def test_everything_learns_after_the_first_step():
    layer = NonLocalBlock(4)
    x = checks.random_tensor(2, 4, 3, 3, dtype=torch.float32)
    for _ in range(2):
        layer.zero_grad()
        (layer(x) * torch.arange(9.0).view(3, 3)).sum().backward()
        with torch.no_grad():
            for one in layer.parameters():
                one -= 0.1 * one.grad
    convolutions = (layer.theta, layer.phi, layer.g, layer.out[0])
    assert all(one.weight.grad.any() for one in convolutions)


def test_great_values_do_not_overflow_under_autocast():
    layer = block(4).float()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert layer(1e4 * torch.ones(1, 4, 8, 8)).isfinite().all()


def test_bad_numbers_are_refused():
    with pytest.raises(ValueError, match='reduction must be at least 1, got 0'):
        NonLocalBlock(4, reduction=0)
