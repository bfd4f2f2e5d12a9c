"""A checkpoint is the student's; what objectives learn lies in its metadata, once."""

import copy
import io

import pytest
import torch
from mmengine.model import ExponentialMovingAverage

from kddense.distiller.state import own_state, own_state_in

from ..helpers import tiny

HINT = dict(hint=dict(type='kddense.FeatureObjective', tap='backbone', levels=[2], weight=0.5))


def build(objectives=HINT):
    student = tiny.segmentor('pspnet_r50-d8')
    return tiny.distiller(student, tiny.segmentor('pspnet_r50-d8', width=16), objectives, scope='mmseg')


@pytest.fixture(scope='module')
def distiller():
    return build()


def saved(state):
    """Return a state as it comes back from a file."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def test_what_is_ours_is_in_the_metadata_alone(distiller):
    state = distiller.state_dict()
    plain = tiny.build(tiny.segmentor('pspnet_r50-d8'), scope='mmseg')
    assert state.keys() == plain.state_dict().keys()
    own = own_state_in(state)
    assert own.keys() == own_state(distiller).keys()
    assert 'objectives.hint.connectors.0.conv.weight' in own
    assert own_state_in(plain.state_dict()) == {}


def test_it_comes_back(distiller):
    state = saved(distiller.state_dict())
    other = build()
    tiny.shake(other.objectives)
    other.load_state_dict(state)
    for name, value in own_state(distiller).items():
        assert torch.equal(own_state(other)[name], value), name


def test_an_average_keeps_the_student_alone(distiller):
    state = ExponentialMovingAverage(distiller).state_dict()
    assert not [path for path, one in state._metadata.items() if 'kddense' in one]
    assert {key.removeprefix('module.') for key in state} - {'steps'} == distiller.state_dict().keys()


def test_a_copy_that_learns_is_a_distiller(distiller):
    assert own_state_in(copy.deepcopy(distiller).state_dict()).keys() == own_state(distiller).keys()


def test_checkpoints_with_an_average_that_held_ours_too_still_load(distiller):
    """As kddense 0.1 wrote them."""
    average = ExponentialMovingAverage(distiller)
    state = average.state_dict()
    state._metadata['module']['kddense'] = own_state_in(distiller.state_dict())
    average.load_state_dict(state)
