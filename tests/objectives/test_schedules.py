"""Schedules: values by hand, properties over the whole range, one clear error for each mistake."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kddense.objectives import schedules
from kddense.objectives.schedules import WeightSchedule, build_schedule


def curve(schedule, length, max_iterations=None):
    return [schedule(i, max_iterations) for i in range(length)]


def test_a_number_is_constant():
    assert curve(build_schedule(0.5), 3) == [0.5] * 3
    assert build_schedule(2)(10**9) == 2.0
    assert isinstance(build_schedule(2)(0), float)


def test_start_and_stop():
    assert curve(WeightSchedule(2.0, start=2, stop=4), 6) == [0, 0, 2, 2, 0, 0]


def test_warmup_rises_from_zero_at_the_start():
    assert curve(WeightSchedule(2.0, start=1, warmup=4), 7) == [0, 0, 0.5, 1, 1.5, 2, 2]


def test_linear_decay_reaches_the_end_value_at_stop():
    assert curve(WeightSchedule(2.0, stop=4, decay='linear'), 5) == [2, 1.5, 1, 0.5, 0]
    assert curve(WeightSchedule(2.0, stop=4, decay='linear', end_value=1.0), 5) == [2, 1.75, 1.5, 1.25, 0]


def test_decay_without_stop_lasts_to_the_end_of_the_training():
    schedule = WeightSchedule(1.0, decay='linear', end_value=0.5)
    assert [schedule(i, 10) for i in (0, 5, 10, 11)] == [1, 0.75, 0.5, 0.5]


def test_cosine_decay_by_hand():
    schedule = WeightSchedule(3.0, stop=4, decay='cosine', end_value=1.0)
    half = math.sqrt(0.5)
    assert curve(schedule, 4) == pytest.approx([3, 2 + half, 2, 2 - half])


def test_decay_begins_after_the_warmup():
    schedule = WeightSchedule(1.0, start=2, warmup=2, stop=8, decay='linear')
    assert curve(schedule, 9) == [0, 0, 0, 0.5, 1, 0.75, 0.5, 0.25, 0]


def test_decay_may_rise():
    assert curve(WeightSchedule(0.0, stop=4, decay='linear', end_value=1.0), 4) == [0, 0.25, 0.5, 0.75]


def test_a_warmup_up_to_the_stop_leaves_no_decay():
    assert curve(WeightSchedule(2.0, warmup=4, stop=4, decay='linear'), 5) == [0, 0.5, 1, 1.5, 0]


def test_fractions_are_of_the_whole_training():
    by_fraction = WeightSchedule(1.0, start=0.2, warmup=0.1, stop=0.8, decay='cosine')
    by_iteration = WeightSchedule(1.0, start=20, warmup=10, stop=80, decay='cosine')
    assert curve(by_fraction, 101, 100) == curve(by_iteration, 101)
    mixed = WeightSchedule(1.0, start=20, warmup=0.1, stop=80, decay='cosine')
    assert curve(mixed, 101, 100) == curve(by_iteration, 101)


def test_one_as_int_and_as_float():
    assert curve(WeightSchedule(1.0, stop=1), 3) == [1, 0, 0]
    assert curve(WeightSchedule(1.0, stop=1.0), 4, 3) == [1, 1, 1, 0]


def test_rounding_never_breaks_a_fraction_that_fits():
    """0.15 + 0.15 of 10 iterations rounds to 2 + 2, beyond the 3 of the stop; and 0.1 + 0.2 > 0.3 in floats."""
    assert curve(WeightSchedule(1.0, start=0.15, warmup=0.15, stop=0.3), 4, 10) == [0, 0, 0, 0]
    assert curve(WeightSchedule(1.0, start=0.1, warmup=0.2, stop=0.3), 4, 10) == [0, 0, 0.5, 0]


fractions = st.floats(0, 1)


@given(fractions, fractions, fractions, st.sampled_from([None, 'linear', 'cosine']), st.integers(1, 60))
def test_the_weight_stays_within_its_values_and_its_span(a, b, share, decay, length):
    start, stop = sorted((a, b))
    assume(start < stop)
    end_value = 0.5 if decay else 0.0
    schedule = WeightSchedule(2.0, start, stop, warmup=share * (stop - start), decay=decay, end_value=end_value)
    weights = curve(schedule, length, length)
    assert all(0 <= weight <= 2.0 for weight in weights)
    for i, weight in enumerate(weights):
        if i < round(start * length) or i >= round(stop * length):
            assert weight == 0
    peak = weights.index(max(weights))
    assert weights[: peak + 1] == sorted(weights[: peak + 1])  # up,
    assert weights[peak:] == sorted(weights[peak:], reverse=True)  # then down


@pytest.mark.parametrize(
    'weight, off',
    [
        (0, True),
        (0.0, True),
        (0.1, False),
        ({'value': 0, 'warmup': 5}, True),
        ({'value': 0, 'end_value': 1, 'decay': 'linear'}, False),
        ({'value': 1, 'start': 1, 'stop': 1.0}, False),
    ],
)
def test_off_is_known_beforehand(weight, off):
    assert build_schedule(weight).is_off is off


@pytest.mark.parametrize(
    'weight, message',
    [
        (-0.5, 'objectives.hint.weight must be finite and at least 0, got -0.5'),
        (math.nan, 'objectives.hint.weight must be finite and at least 0, got nan'),
        (math.inf, 'objectives.hint.weight must be finite and at least 0, got inf'),
        (True, 'objectives.hint.weight must be a number or a dict, got True'),
        ('1', "objectives.hint.weight must be a number or a dict, got '1'"),
        (None, 'objectives.hint.weight must be a number or a dict, got None'),
        ({}, 'objectives.hint.weight needs the key value'),
        ({'value': 1, 'warmpu': 3}, "objectives.hint.weight has no key 'warmpu', .*; did you mean 'warmup'?"),
        ({'value': 1, 'where': 'x'}, "objectives.hint.weight has no key 'where', only value, start, stop"),
        ({'value': -1}, 'objectives.hint.weight.value must be finite and at least 0, got -1'),
        ({'value': math.nan}, 'objectives.hint.weight.value must be finite and at least 0, got nan'),
        ({'value': '1'}, "objectives.hint.weight.value must be a number, got '1'"),
        ({'value': 1, 'end_value': -1}, 'objectives.hint.weight.end_value must be finite and at least 0'),
        ({'value': 1, 'start': -1}, 'objectives.hint.weight.start must be finite and at least 0, got -1'),
        ({'value': 1, 'start': None}, 'objectives.hint.weight.start must be a number, got None'),
        ({'value': 1, 'stop': True}, 'objectives.hint.weight.stop must be a number, got True'),
        ({'value': 1, 'warmup': math.nan}, 'objectives.hint.weight.warmup must be finite and at least 0, got nan'),
        ({'value': 1, 'stop': 1.5}, 'objectives.hint.weight.stop is a float, .* got 1.5; write an int for iterations'),
        ({'value': 1, 'decay': 'exp'}, "objectives.hint.weight.decay must be None, 'linear' or 'cosine', got 'exp'"),
        (
            {'value': 1, 'end_value': 0.5},
            "objectives.hint.weight.end_value is where a decay ends: set decay to 'linear'",
        ),
        (
            {'value': 1, 'stop': 0},
            'objectives.hint.weight.start must come before stop, got start=0, stop=0: the objective',
        ),
        ({'value': 1, 'start': 0.5, 'stop': 0.5}, 'objectives.hint.weight.start must come before stop'),
        ({'value': 1, 'start': 20, 'stop': 10}, 'objectives.hint.weight.start must come before stop, got start=20'),
        ({'value': 1, 'start': 0.5, 'stop': 0.4}, 'objectives.hint.weight.start must come before stop'),
        ({'value': 1, 'start': 5, 'warmup': 6, 'stop': 10}, 'objectives.hint.weight.warmup must end before stop'),
        ({'value': 1, 'warmup': 0.6, 'stop': 0.5}, 'objectives.hint.weight.warmup must end before stop'),
    ],
)
def test_bad_weights_are_named(weight, message):
    with pytest.raises(ValueError, match=message.replace('?', r'\?')):
        build_schedule(weight, where='objectives.hint.weight')


@pytest.mark.parametrize('weight', [{'stop': 0.5}, {'start': 0.5}, {'warmup': 0.5}, {'decay': 'linear'}])
def test_what_needs_the_length_of_the_training_says_so(weight):
    schedule = build_schedule({'value': 1, **weight}, where='objectives.hint.weight')
    with pytest.raises(ValueError, match=r'objectives\.hint\.weight\.\w+ is the fraction .* not known'):
        schedule(0, None)


def test_mixed_units_are_compared_once_the_length_is_known():
    schedule = build_schedule({'value': 1, 'start': 1000, 'stop': 0.5}, where='objectives.hint.weight')
    assert schedule(1000, 4000) == 1
    with pytest.raises(ValueError, match=r'objectives\.hint\.weight\.start must come before stop, got start=1000'):
        schedule(0, 500)


@pytest.mark.parametrize('weight, length', [({'start': 40}, 40), ({'start': 10, 'stop': 0.1}, 100)])
def test_a_weight_that_is_never_on_in_a_run_is_refused_before_it(weight, length):
    with pytest.raises(ValueError, match=r'^w: from iteration .* of a training of .*, which is never'):
        build_schedule({'value': 1, **weight}, where='w').check_length(length)


def test_a_weight_that_does_not_get_as_far_as_it_is_to_is_told(monkeypatch):
    said = []
    monkeypatch.setattr(schedules, 'print_log', lambda text, **_: said.append(text))
    build_schedule({'value': 1, 'warmup': 50, 'stop': 100}, where='w').check_length(100)
    assert said == []
    build_schedule({'value': 1, 'warmup': 50, 'stop': 100}, where='w').check_length(40)
    assert said == [
        'w.warmup ends at iteration 50, after the training, which has 40',
        'w.stop ends at iteration 100, after the training, which has 40',
    ]


def test_a_schedule_is_taken_as_it_is():
    schedule = WeightSchedule(1.0, stop=3)
    assert build_schedule(schedule) is schedule
