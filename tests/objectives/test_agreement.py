"""An objective that ends when it no longer helps: when its gradient no longer points where the task's does."""

from __future__ import annotations

import pytest
import torch

from kddense import Objective
from kddense.objectives.shares import AgreementStop
from kddense.registry import MODELS

from ..helpers import plugins, tiny

STUDENT, WIDE = (tiny.segmentor('pspnet_r50-d8', width=width) for width in (8, 16))
DATA = tiny.segmentation_data()


@MODELS.register_module()
class WithTheTask(Objective):
    """Wants what the task wants, or the opposite."""

    student_taps = frozenset({'loss()'})

    def __init__(self, sign=1.0, **kwargs):
        super().__init__(**kwargs)
        self.sign = sign

    def forward(self, seen, taught):
        return dict(loss=self.sign * sum(value for key, value in seen.losses.items() if 'loss' in key))


def distiller(sign, **weight):
    weight = dict(value=0.5, stop_below=0.0, every=2, patience=2, **weight)
    objectives = dict(o=dict(type='kddense.WithTheTask', sign=sign, weight=weight))
    return tiny.build(dict(type='kddense.Distiller', student=STUDENT, objectives=objectives), scope='mmseg')


def test_what_pulls_the_other_way_ends_after_its_patience():
    model = distiller(-1.0)
    logs = plugins.train(model, DATA, steps=6, lr=1e-4)
    assert [log['distill.o.loss'] != 0 for log in logs] == [True] * 3 + [False] * 3, 'measured in iterations 0 and 2'
    assert [log['distill.o.stopped'] for log in logs] == [0.0] * 3 + [1.0] * 3
    assert len({frozenset(log) for log in logs}) == 1
    other = distiller(-1.0)
    other.load_state_dict(model.state_dict())
    assert other.objectives['o'].stop.has_stopped(), 'in the checkpoint'
    plugins.assert_contracts(model, STUDENT, 'mmseg', rebuild=lambda: distiller(-1.0))


def test_what_pulls_the_same_way_goes_on():
    model = distiller(1.0)
    logs = plugins.train(model, DATA, steps=6, lr=1e-4)
    assert all(log['distill.o.loss'] > 0 for log in logs)
    assert float(model.objectives['o'].stop.times) == 0


def test_cosines_in_a_row():
    stop, right = AgreementStop(below=0.5, patience=2), torch.tensor([1.0, 0.0])
    assert float(stop.note([torch.tensor([2.0, 2.0])], [right])) == pytest.approx(0.5**0.5)
    assert float(stop.note([torch.tensor([0.0, 1.0]), None], [right, right])) == 0
    assert int(stop.times) == 1
    stop.note([torch.zeros(2)], [right])
    stop.note([None], [right])
    assert int(stop.times) == 1, 'nothing was measured'
    stop.note([right], [right])
    assert int(stop.times) == 0, 'not in a row'
    for _ in range(2):
        assert not stop.has_stopped()
        stop.note([-right], [right])
    assert stop.has_stopped()


@pytest.mark.parametrize(
    'weight, sentence',
    [
        (dict(stop_below=2), 'weight.stop_below must be a cosine, from -1 to 1, got 2'),
        (dict(stop_below=0.0, patience=0), 'weight.patience must be a whole number of at least 1, got 0'),
        (dict(patience=2), 'patience'),
        (dict(value='10%', patience=2), 'weight.patience is how long to wait for weight.stop_below: set that too'),
    ],
)
def test_bad_stops_name_the_key(weight, sentence):
    with pytest.raises(ValueError, match=r'objectives\.o') as error:
        tiny.build(
            dict(
                type='kddense.Distiller',
                student=STUDENT,
                objectives=dict(o=dict(type='kddense.WithTheTask', weight=dict(value=1.0) | weight)),
            ),
            scope='mmseg',
        )
    assert sentence in str(error.value)
