"""Connectors: what they compute, how they are chosen, what they refuse."""

import pytest
import torch
from torch import nn

from kddense.connectors import ConvConnector, LinearConnector, build_connector, match_size
from kddense.registry import MODELS

DEFAULT = {'type': 'kddense.Connector'}


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_a_conv_connector_is_a_matrix_at_every_pixel():
    connector = ConvConnector(3, 5)
    x = draw(2, 3, 4, 6)
    matrix, bias = connector.conv.weight[:, :, 0, 0], connector.conv.bias
    expected = torch.stack(
        [
            torch.stack([torch.stack([matrix @ x[n, :, i, j] + bias for j in range(6)], -1) for i in range(4)], -2)
            for n in range(2)
        ]
    )
    torch.testing.assert_close(connector(x), expected)
    assert (connector(x) < 0).any()  # signed


def test_a_larger_kernel_keeps_the_size():
    connector = ConvConnector(3, 5, kernel_size=3)
    assert connector.conv.kernel_size == (3, 3)
    assert connector(draw(2, 3, 4, 6)).shape == (2, 5, 4, 6)


def test_a_linear_connector_treats_tokens_alike():
    connector = LinearConnector(3, 5)
    x = draw(2, 7, 3)
    expected = torch.stack([connector(tokens) for tokens in x])
    torch.testing.assert_close(connector(x), expected)
    torch.testing.assert_close(connector(x[0])[4], connector.linear.weight @ x[0, 4] + connector.linear.bias)


@pytest.fixture(autouse=True)
def same_weights():
    """A layer whose weights happen to be small gives a variance that the norm's epsilon is felt in."""
    torch.manual_seed(0)


def test_a_norm_normalises_every_channel_and_takes_the_place_of_the_bias():
    connector = ConvConnector(3, 5, norm={'type': 'BN'})
    y = connector(10 + draw(4, 3, 8, 8))
    assert connector.conv.bias is None
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var((0, 2, 3), correction=0), torch.ones(5), atol=1e-3, rtol=0)


@pytest.mark.parametrize('shape', [(64, 3), (4, 16, 3)])
def test_batch_norm_of_vectors_and_tokens_runs_over_all_but_channels(shape):
    connector = LinearConnector(3, 5, norm={'type': 'BN'})
    y = connector(10 + draw(*shape)).reshape(-1, 5)
    assert connector.linear.bias is None
    torch.testing.assert_close(y.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(0, correction=0), torch.ones(5), atol=1e-3, rtol=0)


def test_layer_norm_of_tokens_runs_over_channels():
    y = LinearConnector(3, 32, norm={'type': 'LN'})(draw(2, 7, 3))
    torch.testing.assert_close(y.mean(-1), torch.zeros(2, 7), atol=1e-5, rtol=0)


def test_a_frozen_norm_is_mmcvs_to_freeze():
    norm = {'type': 'BN', 'requires_grad': False}
    connector = ConvConnector(3, 5, norm=norm)
    assert not any(p.requires_grad for p in connector.norm.parameters())
    assert norm == {'type': 'BN', 'requires_grad': False}  # the config stays as it was


def test_no_rows_back_propagate():
    connector = LinearConnector(3, 5)
    connector(torch.zeros(0, 3)).sum().backward()
    assert not connector.linear.weight.grad.any()


@pytest.mark.parametrize('cfg', [DEFAULT, {}, {'type': 'Connector'}])
@pytest.mark.parametrize(
    'student, teacher, kind, connected',
    [
        ((2, 3, 4, 4), (2, 8, 7, 7), ConvConnector, (2, 8, 4, 4)),
        ((2, 9, 3), (2, 9, 8), LinearConnector, (2, 9, 8)),
        ((6, 3), (6, 8), LinearConnector, (6, 8)),
    ],
)
def test_the_layer_and_its_channels_follow_from_the_shapes(cfg, student, teacher, kind, connected):
    before = dict(cfg)
    connector = build_connector(cfg, student, torch.Size(teacher))
    assert type(connector) is kind
    assert connector(draw(*student)).shape == connected
    assert cfg == before


def test_options_reach_the_layer():
    connector = build_connector({**DEFAULT, 'kernel_size': 3, 'norm': {'type': 'BN'}}, (2, 3, 4, 4), (2, 8, 4, 4))
    assert connector.conv.kernel_size == (3, 3)
    assert isinstance(connector.norm, nn.BatchNorm2d)


def test_a_layer_that_is_asked_for_is_built_though_channels_agree():
    assert isinstance(build_connector(DEFAULT, (2, 3, 4, 4), (2, 3, 4, 4)), ConvConnector)


def test_a_users_own_connector_gets_the_channels():
    class Doubled(nn.Module):
        def __init__(self, in_channels, out_channels, depth):
            super().__init__()
            self.sizes = in_channels, out_channels, depth

    MODELS.register_module(name='TestsDoubledConnector', module=Doubled)
    try:
        cfg = {'type': 'kddense.TestsDoubledConnector', 'depth': 2}
        connector = build_connector(cfg, (2, 3, 4, 4), (2, 8, 4, 4))
    finally:
        del MODELS.module_dict['TestsDoubledConnector']
    assert connector.sizes == (3, 8, 2)


def test_the_layer_is_drawn_from_the_callers_generator():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = build_connector(DEFAULT, (2, 3, 4, 4), (2, 8, 4, 4))
        torch.manual_seed(3)
        second = build_connector(DEFAULT, (2, 3, 4, 4), (2, 8, 4, 4))
    assert torch.equal(first.conv.weight, second.conv.weight)


@pytest.mark.parametrize('shape', [(2, 3, 4, 4), (2, 9, 3), (6, 3)])
def test_no_layer_where_channels_agree(shape):
    assert build_connector(None, shape, shape) is None


@pytest.mark.parametrize('student, teacher', [((2, 3, 4, 4), (2, 8, 4, 4)), ((2, 8, 3), (2, 8, 8)), ((6, 3), (6, 8))])
def test_no_layer_where_channels_differ_is_refused_with_the_mend(student, teacher):
    mend = r"3 channels and the teacher 8, .* set connector=dict\(type='kddense.Connector'\)"
    with pytest.raises(ValueError, match=mend):
        build_connector(None, student, teacher)


@pytest.mark.parametrize('cfg', [None, DEFAULT])
def test_features_of_other_kinds_are_refused(cfg):
    shapes = r'the student shows \(2, 3, 4, 4\), the teacher \(2, 16, 3\)'
    with pytest.raises(ValueError, match=f'different rank cannot be connected: {shapes}'):
        build_connector(cfg, (2, 3, 4, 4), (2, 16, 3))
    for shape in ((3,), (2, 3, 4, 4, 4)):
        with pytest.raises(ValueError, match=r'only maps \(N, C, H, W\), tokens \(N, L, C\) and vectors \(N, C\)'):
            build_connector(cfg, shape, shape)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match='remove in_channels=3 from its config'):
        build_connector({**DEFAULT, 'in_channels': 3}, (2, 3, 4, 4), (2, 8, 4, 4))
    with pytest.raises(ValueError, match='kernel_size must be odd, got 2'):
        ConvConnector(3, 5, kernel_size=2)
    with pytest.raises(ValueError, match='in_channels must be at least 1, got 0'):
        ConvConnector(0, 5)
    with pytest.raises(ValueError, match='out_channels must be at least 1, got 0'):
        LinearConnector(3, 0)
    with pytest.raises(ValueError, match="resize must be one of 'student', 'teacher', got 'both'"):
        match_size(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), resize='both')
    with pytest.raises(ValueError, match="mode must be one of 'bilinear', .*, got 'linear'"):
        match_size(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), mode='linear')


def test_resizing_by_hand():
    """Twice as wide, corners not aligned: values at a quarter and at three quarters of the way."""
    small, large = torch.tensor([[[[0.0, 4.0]]]]), torch.zeros(1, 2, 1, 4)
    student, teacher = match_size(small, large)
    assert student.tolist() == [[[[0.0, 1.0, 3.0, 4.0]]]]
    assert teacher is large
    student, teacher = match_size(large, small, resize='teacher')
    assert student is large
    assert teacher.tolist() == [[[[0.0, 1.0, 3.0, 4.0]]]]
    student, _ = match_size(small, large, mode='nearest')
    assert student.tolist() == [[[[0.0, 0.0, 4.0, 4.0]]]]


def test_area_averages_when_shrinking():
    ramp = torch.arange(8.0).reshape(1, 1, 1, 8)
    student, _ = match_size(ramp, torch.zeros(1, 1, 1, 2), mode='area')
    assert student.tolist() == [[[[1.5, 5.5]]]]


@pytest.mark.parametrize('resize', ['student', 'teacher'])
@pytest.mark.parametrize('mode', ['bilinear', 'bicubic', 'nearest', 'nearest-exact', 'area'])
def test_every_mode_reaches_the_other_size(resize, mode):
    student, teacher = match_size(draw(2, 3, 4, 6), draw(2, 8, 7, 5), resize, mode)
    expected = (7, 5) if resize == 'student' else (4, 6)
    assert (student.shape, teacher.shape) == ((2, 3, *expected), (2, 8, *expected))


@pytest.mark.parametrize('shape', [(2, 3, 4, 6), (2, 9, 3), (6, 3)])
def test_equal_sizes_and_what_has_none_come_back_untouched(shape):
    student, teacher = draw(*shape), draw(*shape)
    same_student, same_teacher = match_size(student, teacher)
    assert same_student is student
    assert same_teacher is teacher


def test_gradients_flow_through_the_resizing():
    student = torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16, requires_grad=True)
    resized, _ = match_size(student, torch.zeros(1, 1, 4, 4))
    resized.sum().backward()
    assert student.grad.tolist() == [[[[4.0, 4.0], [4.0, 4.0]]]]  # each of 16 pixels shares 1 out
