"""Self attention distillation: what each stage learns from the next, by hand and in a network."""

from __future__ import annotations

import pytest
import torch

from kddense import SelfAttentionObjective
from kddense.exchange import Answer

from ..helpers import plugins, tiny

STUDENT = tiny.segmentor('pspnet_r50-d8')
DATA = tiny.segmentation_data()
SHALLOW = torch.tensor([[[[3.0, 0.0], [0.0, 4.0]]]])
DEEP = torch.tensor([[[[2.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]])


def value(*maps, **options):
    return SelfAttentionObjective(**options)(Answer(taps={'backbone': maps}), Answer())['loss']


def test_a_value_by_hand():
    """Energies (9, 0, 0, 16) and (4, 0, 0, 0) as unit vectors: (9, 0, 0, 16) / √337 and (1, 0, 0, 0)."""
    expected = (9 / 337**0.5 - 1) ** 2 + 256 / 337
    assert float(value(SHALLOW, DEEP)) == pytest.approx(expected, rel=1e-6)
    assert float(value(SHALLOW, SHALLOW, DEEP)) == pytest.approx(expected / 2, rel=1e-6), 'the mean of two pairs'
    assert float(value(SHALLOW, SHALLOW, DEEP, levels=[0, 2])) == pytest.approx(expected, rel=1e-6)
    assert float(value(SHALLOW, 5 * SHALLOW)) == pytest.approx(0, abs=1e-6), 'scale is no attention'


def test_a_smaller_map_is_resized_and_an_empty_one_has_a_gradient():
    shallow = torch.rand(2, 3, 8, 8, requires_grad=True)
    loss = value(shallow, torch.zeros(2, 5, 4, 4))
    loss.backward()
    assert torch.isfinite(shallow.grad).all()
    assert torch.autograd.gradcheck(lambda x: value(x, DEEP.double()), SHALLOW.double().requires_grad_())


def test_the_last_stage_teaches_alone():
    objectives = dict(s=dict(type='kddense.SelfAttentionObjective', weight=dict(value=0.1, start=0)))
    model = tiny.build(dict(type='kddense.Distiller', student=STUDENT, objectives=objectives), scope='mmseg')
    found = plugins.gradients(model, DATA)
    assert 'backbone.layer2.0.conv1.weight' in found
    assert not any(key.startswith(('backbone.layer4', 'decode_head')) for key in found)
    plugins.train(model, DATA)
    plugins.assert_contracts(model, STUDENT, 'mmseg')


@pytest.mark.parametrize(
    'build, sentence',
    [
        (lambda: SelfAttentionObjective(levels=[1]), 'levels must name at least two different levels'),
        (lambda: value(SHALLOW, DEEP, levels=[0, 5]), r'levels must name some of 0..1, got \[0, 5\]'),
        (lambda: value(SHALLOW), "tap 'backbone' must show at least two maps"),
    ],
)
def test_bad_levels(build, sentence):
    with pytest.raises(ValueError, match=sentence):
        build()
