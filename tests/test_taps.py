"""Taps: every kind hears the right thing, and nothing of them stays behind."""

from collections import namedtuple

import pytest
import torch
from torch import nn

from kddense.taps import Call, TapError, Taps, map_tensors, tensors_of

Pair = namedtuple('Pair', ['first', 'second'])


class Head(nn.Module):
    """A head as in mmseg and mmdet: parts, a method with defaults, and a forward that others call directly."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Linear(3, 3)
        self.relu = nn.ReLU(inplace=True)
        self.unused = nn.Linear(3, 3)

    def forward(self, levels, scale=1.0):
        return [self.score(level, scale) for level in levels]

    def score(self, level, scale=1.0, *, shift=0.0):
        return self.relu(self.shared(level)) * scale + shift


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(2, 3)
        self.head = Head()

    def forward(self, x):
        y = self.body(x)
        return self.head.forward([y, -y], scale=2.0)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Model()


@pytest.fixture
def x():
    return torch.randn(4, 2, generator=torch.Generator().manual_seed(1))


def traces(model):
    return {name: {key: id(value) for key, value in vars(m).items()} for name, m in model.named_modules()}


def test_outputs_inputs_copies_and_calls(model, x):
    with Taps(model, ['body', 'head.shared:input', 'head.relu:copy', 'head.score()', 'head']) as heard:
        result = model(x)
    body = heard['body']
    torch.testing.assert_close(body, x @ model.body.weight.T + model.body.bias)
    first, second = heard['head.shared:input']
    assert first is body
    torch.testing.assert_close(second, -body)
    torch.testing.assert_close(heard['head.relu:copy'][0], model.head.shared(body).relu())
    call = heard['head.score()'][1]
    assert isinstance(call, Call)
    assert call.arguments == dict(level=second, scale=2.0, shift=0.0)
    assert call.result is result[1]
    assert heard['head'] is result


def test_direct_calls_of_forward_are_heard(model, x):
    with Taps(model, ['head', 'head.shared:input']) as heard:
        result = model.head.forward([torch.zeros(1, 3)])
    assert heard.calls('head') == [result]
    assert heard['head.shared:input'].shape == (1, 3)


def test_gradients_flow_through_what_was_heard(model, x):
    with Taps(model, ['body', 'head.relu:copy']) as heard:
        model(x)
    (heard['body'].sum() + heard['head.relu:copy'][0].sum()).backward()
    assert model.body.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('taps', [['body'], ['body', 'body:copy', 'body:input', 'head.score()', '', 'forward()']])
def test_nothing_stays_behind(model, x, taps):
    before = traces(model)
    with Taps(model, taps):
        assert traces(model) != before
        model(x)
    assert traces(model) == before


def test_nothing_stays_behind_after_an_exception(model):
    before = traces(model)
    with pytest.raises(RuntimeError, match='mat1 and mat2'), Taps(model, ['body', 'head', 'body:copy']):
        model(torch.zeros(1, 7))
    assert traces(model) == before


def test_a_shadow_of_somebody_else_stays(model, x):
    own = model.body.forward
    model.body.forward = own
    before = traces(model)
    with Taps(model, ['body']) as heard:
        model(x)
    assert traces(model) == before
    assert heard.heard('body')


def test_outside_the_context_nothing_is_heard(model, x):
    taps = Taps(model, ['body'])
    model(x)
    with taps as heard:
        pass
    model(x)
    assert not heard.heard('body')


def test_a_value_that_is_overwritten_later_is_refused(model, x):
    with Taps(model, ['head.shared'], owner='student') as heard:
        model(x)
    with pytest.raises(TapError, match="tap 'head.shared': a later layer of the student .* write 'head.shared:copy'"):
        heard['head.shared']


def test_an_input_that_the_module_itself_overwrites_is_refused(model, x):
    with Taps(model, ['head.relu:input']) as heard:
        model(x)
    with pytest.raises(TapError, match='overwrites this value in place'):
        heard['head.relu:input']


def test_a_copy_holds_the_value_from_before(model, x):
    with Taps(model, ['head.shared:copy', 'body']) as heard:
        model(x)
    torch.testing.assert_close(heard['head.shared:copy'][0], model.head.shared(heard['body']))
    assert (heard['head.shared:copy'][0] < 0).any()


def test_a_part_that_never_ran(model, x):
    with Taps(model, ['head.unused'], owner='teacher') as heard:
        model(x)
    assert not heard.heard('head.unused')
    with pytest.raises(TapError, match="tap 'head.unused': this part of the teacher did not run"):
        heard['head.unused']


@pytest.mark.parametrize(
    'tap, message',
    [
        ('head.share', "has no part 'head.share'; the nearest names are 'head.shared'"),
        ('boddy', "the student \\(Model\\) has no part 'boddy'; the nearest names are 'body'"),
        ('zzzzz', "has no part 'zzzzz'$"),
        (
            'body:inputs',
            "'inputs' is unknown, use 'path', 'path:input', 'path:copy', 'path:input:copy' or 'path.method\\(\\)'",
        ),
        ('head.scores()', "Head has no method 'scores'; the nearest names are 'score'"),
        ('neck.loss()', "has no part 'neck'"),
    ],
)
def test_a_tap_that_names_nothing(model, tap, message):
    with pytest.raises(TapError, match=message):
        Taps(model, [tap], owner='student')


def test_nested_values():
    value = {'a': [torch.zeros(1), (torch.ones(1),)], 'b': Pair(torch.ones(2), 'text')}
    assert [tensor.shape[0] for tensor in tensors_of(value)] == [1, 1, 2]
    doubled = map_tensors(lambda tensor: tensor * 2, value)
    assert isinstance(doubled['b'], Pair)
    assert doubled['b'].second == 'text'
    assert doubled['b'].first.tolist() == [2, 2]
    assert doubled['a'][1][0].tolist() == [2]


def test_a_copy_of_an_input_is_from_before_the_module_ran(model, x):
    with Taps(model, ['head.relu:input:copy', 'head.relu']) as heard:
        model(x)
    for copied, overwritten in zip(heard['head.relu:input:copy'], heard['head.relu'], strict=True):
        assert (copied < 0).any()
        assert torch.equal(copied.relu(), overwritten)


class Editing(nn.Module):
    """Overwrites in place what a method of it was given and gave, and goes on with its containers."""

    def forward(self, x):
        parts = self.split({'whole': x.clone()})
        parts['halves'][0].mul_(2)
        return parts

    def split(self, parts):
        parts['halves'] = list(parts['whole'].chunk(2))
        return parts


def test_values_that_are_overwritten_inside_a_call_are_refused(x):
    model = nn.Sequential(Editing())
    with Taps(model, ['0.split()']) as heard:
        model(x)
    with pytest.raises(TapError, match=r"^tap '0\.split\(\)': a later layer .* tap a part of the call instead$"):
        heard['0.split()']


def test_a_call_keeps_the_containers_that_it_was_given(x):
    model = nn.Sequential(Editing())
    model[0].forward = lambda value: model[0].split({'whole': value})
    with Taps(model, ['0.split()']) as heard:
        model(x)
    call = heard['0.split()']
    assert list(call.arguments['parts']) == ['whole']
    assert list(call.result) == ['whole', 'halves']


def test_the_empty_path_is_the_model_itself(model, x):
    with Taps(model, ['', ':input']) as heard:
        result = model(x)
    assert heard[''] is result
    assert heard[':input'] is x


def test_tensors_of_calls_are_found_and_mapped(x):
    call = Call({'levels': [x, 2 * x]}, {'score': -x})
    assert [value.mean() / x.mean() for value in tensors_of(call)] == [1, 2, -1]
    doubled = map_tensors(lambda value: value.double(), call)
    assert {value.dtype for value in tensors_of(doubled)} == {torch.float64}
