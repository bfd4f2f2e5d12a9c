"""Fusion of levels: what each level is made of, sizes, what is refused."""

import pytest
import torch
from torch.nn import functional as F

from kddense import ReviewConnector

from ..helpers import loss_checks as checks


def levels(channels=(4, 6, 8), sizes=((9, 7), (5, 4), (3, 2))):
    pairs = zip(channels, sizes, strict=True)
    return [checks.random_tensor(2, one, *size, seed=one, dtype=torch.float32) for one, size in pairs]


def test_each_level_is_mixed_with_what_the_deeper_ones_gave():
    layer = ReviewConnector([4, 6, 8], [3, 5, 7], middle_channels=2).eval()
    maps = levels()
    mixed = layer.inward[2](maps[2])
    expected = [layer.outward[2](mixed)]
    for index in (1, 0):
        own = layer.inward[index](maps[index])
        deeper = F.interpolate(mixed, own.shape[2:], mode='nearest')
        share = torch.sigmoid(layer.weigh[index](torch.cat([own, deeper], 1)))
        mixed = own * share[:, 0:1] + deeper * share[:, 1:2]
        expected.insert(0, layer.outward[index](mixed))
    for own, other, channels in zip(layer(maps), expected, (3, 5, 7), strict=True):
        torch.testing.assert_close(own, other)
        assert own.shape[1] == channels


def test_fine_levels_hear_of_deep_ones_and_not_the_other_way():
    layer, maps = ReviewConnector([4, 6, 8], [3, 5, 7]).eval(), levels()
    changed = [maps[0], maps[1], maps[2] + 1]
    assert not any(torch.equal(*pair) for pair in zip(layer(maps), layer(changed), strict=True))
    same = [torch.equal(*pair) for pair in zip(layer(maps), layer([maps[0] + 1, *maps[1:]]), strict=True)]
    assert same == [False, True, True]


@pytest.mark.parametrize('channels, middle', [([4, 64], 64), ([4, 2048], 512)])
def test_the_middle_is_the_deepest_levels_width(channels, middle):
    assert ReviewConnector(channels, [8, 8]).weigh[0].in_channels == 2 * middle


def test_one_level_is_brought_to_the_teachers_channels():
    (only,) = ReviewConnector([4], [6])(levels()[:1])
    assert only.shape == (2, 6, 9, 7)


def test_convolutions_in_bfloat16_give_almost_the_same():
    wide, low = (ReviewConnector([4, 6, 8], [3, 5, 7], precision=precision) for precision in ('fp32', 'bf16'))
    low.load_state_dict(wide.state_dict())
    for own, other in zip(wide(levels()), low(levels()), strict=True):
        assert other.dtype == torch.float32
        assert 0 < (own - other).abs().max() < 0.1
    sum(level.square().sum() for level in low(levels())).backward()
    assert all(one.grad.dtype == torch.float32 and one.grad.isfinite().all() for one in low.parameters())


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="precision must be .*'fp32'.*'bf16'"):
        ReviewConnector([4], [8], precision='fp16')
    with pytest.raises(ValueError, match='levels must be as many on both sides, got 2 and 1'):
        ReviewConnector([4, 4], [8])
    with pytest.raises(ValueError, match='middle_channels must be at least 1, got 0'):
        ReviewConnector([4], [8], middle_channels=0)
