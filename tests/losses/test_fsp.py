"""Flows: the worked example, loops as reference, layers of unequal size."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kddense.losses import FSPLoss, flow_distance, flow_matrix

from ..helpers import loss_checks as checks

FIRST = torch.tensor([[[[1.0, 2], [3, 4]], [[0, 1], [1, 0]]]], dtype=torch.float64)
ONES = torch.ones(1, 1, 2, 2, dtype=torch.float64)


def test_the_worked_example():
    theirs, ours = flow_matrix(FIRST, ONES), flow_matrix(torch.ones_like(FIRST), ONES)
    assert theirs.flatten().tolist() == [2.5, 0.5]
    assert ours.flatten().tolist() == [1, 1]
    assert flow_distance(ours, theirs, 'paper').item() == 2.5
    assert flow_distance(ours, theirs).item() == 1.25
    assert FSPLoss()((torch.ones_like(FIRST), ONES), (FIRST, ONES)).item() == 1.25


def test_agrees_with_loops():
    first, second = checks.random_tensor(2, 3, 4, 5), checks.random_tensor(2, 2, 4, 5, seed=1)
    expected = np.zeros((2, 3, 2))
    for n, i, j, y, x in np.ndindex(2, 3, 2, 4, 5):
        expected[n, i, j] += first[n, i, y, x] * second[n, j, y, x] / 20
    np.testing.assert_allclose(flow_matrix(first, second), expected, rtol=1e-9)


def test_the_larger_layer_is_averaged():
    first, second = checks.random_tensor(2, 3, 8, 8), checks.random_tensor(2, 4, 4, 2, seed=1)
    expected = flow_matrix(F.adaptive_avg_pool2d(first, (4, 2)), second)
    torch.testing.assert_close(flow_matrix(first, second), expected)
    torch.testing.assert_close(flow_matrix(second, first), expected.transpose(1, 2))


@pytest.mark.parametrize('mode', ['code', 'paper'])
def test_gradient_and_precision(mode):
    second = checks.random_tensor(2, 2, 2, 3, seed=2)

    def loss(student, teacher):
        return FSPLoss(mode)((student, second.to(student.dtype)), (teacher, second.to(teacher.dtype)))

    student, teacher = checks.random_tensor(2, 3, 2, 3), checks.random_tensor(2, 3, 2, 3, seed=1)
    checks.assert_exact_gradient(loss, student, teacher)
    checks.assert_float32_inside(lambda s, t: flow_distance(s, t, mode), student, teacher)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert flow_matrix(student.bfloat16(), second.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize('size', [(9, 12), (4, 5), (1, 1)], ids=['of what flows', 'of the maps', 'over positions'])
@pytest.mark.parametrize('channels', [(2, 3, 6, 7), (3, 2, 7, 6)], ids=['right first', 'left first'])
@pytest.mark.parametrize('mode', ['code', 'paper'])
def test_convolutions_cost_less_in_other_orders(size, channels, mode):
    c, d, m, n = channels
    first, second = checks.random_tensor(2, c, *(2 * side for side in size)), checks.random_tensor(2, d, *size, seed=1)
    teacher = [checks.random_tensor(2, count, *size, seed=count) for count in (m, n)]
    convolutions = [nn.Conv2d(*pair, 1).double() for pair in ((c, m), (d, n))]
    connected = [layer(one) for layer, one in zip(convolutions, (first, second), strict=True)]

    def loss(*_):
        layers = [(one.weight.flatten(1), one.bias) for one in convolutions]
        return FSPLoss(mode)((first, second), teacher, layers)

    expected = flow_distance(flow_matrix(*connected), flow_matrix(*teacher), mode)
    torch.testing.assert_close(loss(), expected)
    torch.testing.assert_close(FSPLoss(mode)(connected, teacher), expected)
    assert torch.autograd.gradcheck(loss, [one for layer in convolutions for one in layer.parameters()])


def test_equal_flows_are_a_zero_over_positions():
    maps = [checks.random_tensor(2, channels, 2, 2, dtype=torch.float32) for channels in (30, 40)]
    checks.assert_zero_that_backpropagates(lambda own, _: FSPLoss()((own, maps[1]), maps), maps[0], None)


def test_no_image_is_a_zero():
    checks.assert_zero_that_backpropagates(
        lambda own, other: FSPLoss()((own, own), (other, other)), torch.ones(0, 3, 4, 4), torch.ones(0, 3, 4, 4)
    )


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r'two maps \(N, C, H, W\) of as many images, got \(1, 2, 2, 2\), \(1, 2, 2\)'):
        flow_matrix(FIRST, ONES[0].expand(1, 2, 2))
    with pytest.raises(ValueError, match=r'one shape, got \(1, 2, 1\), \(1, 1, 1\)'):
        flow_distance(flow_matrix(FIRST, ONES), flow_matrix(ONES, ONES))
    with pytest.raises(ValueError, match=r'one shape, got \(1, 2, 1\), \(1, 1, 1\)'):
        FSPLoss()((FIRST, ONES), (ONES, ONES))
    with pytest.raises(ValueError, match="mode must be one of 'code', 'paper'"):
        FSPLoss(mode='mean')
