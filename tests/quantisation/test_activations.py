"""Rounding of activations: ranges and steps by hand, plain references, and what is refused."""

import pytest
import torch
from torch import nn

from kddense import LSQActivationQuantiser, LSQQuantiser, MinMaxQuantiser
from kddense.quantisation import QuantisedStudent, Steps, UniformQuantiser, first_step, on_learned_steps, on_steps

CPU = torch.device('cpu')


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def begun(quantiser, *layers):
    quantiser.begin(layers or ['one'], CPU)
    return quantiser.train()


def shown(quantiser, *values, layer='one'):
    """Let a quantiser see one tensor an iteration."""
    for value in values:
        quantiser(torch.as_tensor(value), layer)
        quantiser.settle()
        quantiser.iteration += 1
    return quantiser


def lsq(value, step, least, most, count):
    """Steps that learn, as the paper's appendix has them."""
    share = (count * most) ** -0.5
    step = (step - step * share).detach() + step * share
    whole = (value / step).clamp(least, most)
    return ((whole.round() - whole).detach() + whole) * step


@pytest.mark.parametrize('least, most', [(-8, 7), (0, 15), (-2, 1)])
def test_learned_steps_have_the_values_and_gradients_of_the_paper(least, most):
    upstream, found = normal(3, 4, 5, seed=1), []
    for function in (on_learned_steps, lsq):
        value, step = normal(3, 4, 5).mul(3).requires_grad_(), torch.tensor(0.3, requires_grad=True)
        result = function(value, step, least, most, 20)
        result.backward(upstream)
        found.append((result.detach(), value.grad, step.grad))
    for own, reference in zip(*found, strict=True):
        torch.testing.assert_close(own, reference)


def test_learned_steps_by_hand():
    value = torch.tensor([0.3, 0.6, 9.0], requires_grad=True)
    step = torch.tensor(0.5, requires_grad=True)
    result = on_learned_steps(value, step, -2, 1, count=4)
    result.sum().backward()
    assert result.tolist() == [0.5, 0.5, 0.5]
    assert value.grad.tolist() == [1, 0, 0]
    assert step.grad.item() == pytest.approx((1 - 0.6 + 1 + 1) / 2)
    assert first_step(torch.tensor([-1.0, 3.0]), 4).item() == 2


def test_learned_steps_of_nothing_and_in_low_precision():
    step = torch.tensor(0.5, requires_grad=True)
    on_learned_steps(torch.zeros(0, 3), step, -2, 1, 3).sum().backward()
    assert step.grad == 0
    value = normal(4, 4).bfloat16().requires_grad_()
    result = on_learned_steps(value, step, -2, 1, 3)
    result.sum().backward()
    assert result.dtype == value.grad.dtype == torch.bfloat16
    assert step.grad.dtype == torch.float32
    with pytest.raises(ValueError, match='weight must be floating'):
        on_learned_steps(torch.tensor([1]), step, -2, 1, 3)
    with pytest.raises(ValueError, match='most must be at least 1'):
        on_learned_steps(normal(2), step, 0, 0, 3)


@pytest.mark.parametrize('zero, least, most', [(0, -128, 127), (9, 0, 15), (0, 0, 255)])
def test_steps_are_those_of_pytorch(zero, least, most):
    steps = Steps(torch.tensor(0.25), torch.tensor(zero, dtype=torch.int32), least, most)
    upstream, found = normal(64, 64, seed=1), []
    for function in (
        lambda value: on_steps(value, steps),
        lambda value: torch.fake_quantize_per_tensor_affine(value, 0.25, zero, least, most),
    ):
        value = normal(64, 64).mul(9).requires_grad_()
        result = function(value)
        result.backward(upstream)
        found.append((result.detach(), value.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert (found[0][1] == 0).any()


def test_a_range_is_the_mean_of_what_was_seen_and_then_moves_slowly():
    quantiser = begun(MinMaxQuantiser(bits=2, momentum=0.25))
    ranges = []
    for greatest in (3.0, 9.0, 12.0, 4.0, 0.0, 8.0):
        shown(quantiser, [-greatest / 2, greatest])
        ranges.append(quantiser.steps_of('one').scale.item() * 3 / 1.5)
    # Shares of 1, 1/2, 1/3, 1/4, then 1/4 for good.
    torch.testing.assert_close(ranges, [3.0, 6.0, 8.0, 7.0, 5.25, 5.9375])
    assert quantiser.steps_of('one').zero_point == 1


def test_an_iteration_rounds_by_what_was_seen_before_it():
    """What a head sees on several levels counts once, and recomputed activations meet the same range."""
    quantiser = begun(MinMaxQuantiser(bits=2))
    first = torch.tensor([0.0, 1.4, 3.0])
    assert torch.equal(quantiser(first, 'one'), first)
    quantiser(torch.tensor([1.0, 6.0]), 'one')
    quantiser.settle()
    assert quantiser.steps_of('one')[:2] == (2, 0)
    for _ in range(2):
        assert quantiser(torch.tensor([1.4, 30.0]), 'one').tolist() == [2, 6]
    quantiser.settle()
    assert quantiser.steps_of('one').scale == (6 + 30) / 2 / 3
    assert quantiser.eval()(torch.tensor([1.4, 60.0]), 'one').tolist() == [0, 18]
    quantiser.settle()
    assert quantiser.steps_of('one').scale == 6  # tests are not watched


@pytest.mark.parametrize(
    'mode, steps', [('affine', (2.0, 2, 0, 3)), ('symmetric', (4.0, 0, -2, 1))], ids=['affine', 'symmetric']
)
def test_modes(mode, steps):
    scale, zero, least, most = shown(begun(MinMaxQuantiser(2, mode)), [-4.0, 2.0]).steps_of('one')
    assert (scale.item(), zero.item(), least, most) == steps


def test_ranges_rest_after_a_while():
    quantiser = shown(begun(MinMaxQuantiser(freeze_after=2)), [1.0], [3.0], [900.0])
    assert quantiser.steps_of('one').scale.item() == pytest.approx(2 / 255)
    quantiser.rounds = False  # as calibration has it, which sees all that it is given
    assert shown(quantiser, [2.0]).steps_of('one').scale.item() == pytest.approx(2 / 255)
    assert shown(quantiser, [6.0]).steps_of('one').scale.item() == pytest.approx(3 / 255)


@pytest.mark.parametrize('kind', [MinMaxQuantiser, LSQActivationQuantiser])
def test_what_is_not_finite_or_empty_says_nothing(kind):
    quantiser = begun(kind(8))
    for value in (torch.zeros(0, 4), torch.tensor([[float('inf')]]), torch.tensor([[float('nan')]])):
        assert quantiser(value, 'one') is value
        quantiser.settle()
        assert not quantiser.known
    shown(quantiser, [[2.0]])
    before = quantiser.learnt()['one']
    shown(quantiser, [[float('inf')]])
    assert torch.equal(quantiser.learnt()['one'], before)


def test_whole_numbers_are_left():
    value = torch.tensor([1, 2])
    assert begun(MinMaxQuantiser())(value, 'one') is value


def test_a_learned_step_begins_with_the_first_iteration():
    quantiser = begun(LSQActivationQuantiser(2), 'one', 'other', 'none')
    quantiser(torch.tensor([[1.0, 2.0]]), 'one')
    quantiser(torch.tensor([[6.0]]), 'one')
    quantiser(torch.tensor([[-1.0, 2.0, 0.0]]), 'other')
    quantiser.settle()
    step, zero, least, most = quantiser.steps_of('one')
    assert step.item() == pytest.approx(2 * 3 / 3**0.5)
    assert (zero, least, most) == (0, 0, 3)
    assert quantiser.steps_of('other')[2:] == (-2, 1)
    assert quantiser.known == {'one', 'other'}
    value = normal(2, 3, 4).requires_grad_()
    quantiser(value, 'other').sum().backward()
    other = torch.tensor(quantiser.steps_of('other').scale.item(), requires_grad=True)
    lsq(normal(2, 3, 4), other, -2, 1, count=12).sum().backward()  # features of one image, not of the batch
    torch.testing.assert_close(quantiser.numbers[1].grad, other.grad)


@pytest.mark.parametrize('kind', [MinMaxQuantiser, LSQActivationQuantiser])
def test_what_was_seen_comes_back(kind):
    quantiser = shown(begun(kind(8), 'one', 'two'), normal(2, 3), normal(2, 3, seed=1))
    other = begun(kind(8), 'one', 'two')
    other.restore(quantiser.learnt())
    for one in (quantiser, other):
        shown(one, normal(2, 3, seed=2))
    assert other.known == {'one'}
    assert torch.equal(quantiser.learnt()['one'], other.learnt()['one'])
    assert quantiser.steps_of('one') == other.steps_of('one')


def test_an_observer_that_saw_nothing_is_named():
    quantiser = begun(MinMaxQuantiser()).eval()
    with pytest.raises(ValueError, match='activations: the observer of the layer one saw nothing: train, or calibrate'):
        quantiser(normal(2, 3), 'one')
    with pytest.raises(ValueError, match='holds no ranges of activations, which MinMaxQuantiser needs: .*--calibrate'):
        quantiser.restore(None)
    seen = shown(begun(MinMaxQuantiser(), 'other'), [1.0], layer='other').learnt()
    with pytest.raises(ValueError, match='are of other layers, they differ in 1 such as other'):
        quantiser.restore(seen)
    with pytest.raises(ValueError, match='holds no learned step of the layer one, but'):
        begun(LSQActivationQuantiser()).restore(shown(begun(MinMaxQuantiser()), [1.0]).learnt())
    with pytest.raises(ValueError, match='holds no range of activations of the layer one, but'):
        begun(MinMaxQuantiser()).restore(shown(begun(LSQActivationQuantiser()), [1.0]).learnt())


@pytest.mark.parametrize(
    'kind, options, message',
    [
        (MinMaxQuantiser, dict(bits=9), 'bits must be 2 to 8 for activations, got 9'),
        (MinMaxQuantiser, dict(momentum=0), 'momentum must be greater than 0 and at most 1, got 0'),
        (MinMaxQuantiser, dict(freeze_after=0), 'freeze_after must be at least 1 iteration, or None for never, got 0'),
        (LSQActivationQuantiser, dict(bits=1), 'bits must be 2 to 8 for activations, got 1'),
        (LSQQuantiser, dict(bits=1), 'bits must be 2 to 8 for learned steps, got 1'),
    ],
)
def test_bad_options_are_one_sentence(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)


def test_layers_compute_with_rounded_inputs_and_weights():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 6))
    quantised = QuantisedStudent(model, UniformQuantiser(4), MinMaxQuantiser(3), ends='quantised')
    images = normal(2, 3, 8, 8)
    quantised.attach()
    quantised.begin_step(0)
    model(images)
    quantised.end_step()
    quantised.train(False)
    inside = model[:3](on_steps(images, quantised.activations.steps_of('0')))
    expected = model[3](on_steps(inside, quantised.activations.steps_of('3')))
    assert torch.equal(model(images), expected)
