"""Objectives that count over a batch: two processes with an image each have one process's gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel

from kddense.objectives import _shared_numbers, base

from ..helpers import detectors, plugins, tiny

BOXES = ((8.0, 10.0, 20.0, 24.0), (2.0, 4.0, 126.0, 120.0))
DATA = tiny.detection_data(sizes=((128, 128), (128, 128)), boxes=(BOXES, BOXES[:1]))
# CrossKD makes the statistics of features those of the teacher's, over a batch: of two images that are one they agree.
ALIKE = dict(DATA, inputs=[DATA['inputs'][0]] * 2)
OBJECTIVES = {name: dict(type=f'kddense.{name}Objective') for name in ('FGD', 'MGD', 'FGFI', 'DeFeat', 'CrossKD')}
OBJECTIVES['GID'] = dict(type='kddense.GIDObjective', relation=0.0)  # which each process has of its own instances


@pytest.fixture(autouse=True)
def a_step_of_a_run():
    MessageHub.get_current_instance().update_info_dict(dict(seed=3, iter=7, max_iters=10))


def gradients(model, data):
    """Return the gradients of the objective's losses alone, of the student and of what the objective learns."""
    model.zero_grad()
    losses = model(**model.data_preprocessor(copy.deepcopy(data), True), mode='loss')
    BaseModel.parse_losses(None, {name: value for name, value in losses.items() if 'distill' in name})[0].backward()
    return {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize('name', OBJECTIVES)
def test_two_halves_are_the_whole(name, monkeypatch):
    """Each process is taken twice: what it would send is heard first, and what comes back is the mean of both."""
    crosses = name == 'CrossKD'
    teacher = detectors.one_stage('retinanet', width=12, fpn=16 if crosses else 24)
    model = tiny.distiller(detectors.one_stage('retinanet'), teacher, dict(it=OBJECTIVES[name]))
    plugins.make_calm(model)
    data = ALIKE if crosses else DATA
    whole = gradients(model, data)
    sent: dict[int, list[torch.Tensor]] = {0: [], 1: []}
    halves = []
    for round_of in ('heard', 'answered'):
        for rank in range(2):
            numbers = iter(zip(*sent.values(), strict=True)) if round_of == 'answered' else None

            def all_reduce(value, op, rank=rank, numbers=numbers):
                assert op == 'mean'
                if numbers is None:
                    sent[rank].append(value.clone())
                else:
                    value.copy_(sum(next(numbers)) / 2)

            monkeypatch.setattr(base, 'all_reduce', all_reduce)
            monkeypatch.setattr(_shared_numbers, 'get_dist_info', lambda rank=rank: (rank, 2))
            found = gradients(model, {key: values[rank : rank + 1] for key, values in data.items()})
            if round_of == 'answered':
                halves.append(found)
    assert whole.keys() == halves[0].keys() == halves[1].keys()
    assert any(name.startswith('backbone') for name in whole)
    greatest = {key: float(value.abs().max()) for key, value in whole.items()}
    for key, value in whole.items():
        mean = (halves[0][key] + halves[1][key]) / 2
        # What is standardised does not depend on biases before it: noise is all that their gradients are.
        scale = max(greatest.values()) if crosses else greatest[key]
        torch.testing.assert_close(mean, value, rtol=1e-4, atol=1e-6 + 1e-5 * scale, msg=key)
