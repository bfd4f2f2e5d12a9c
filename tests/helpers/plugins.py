"""A few training steps of a plug-in through public names, and the contracts that none may break."""

from __future__ import annotations

import copy
import io

import torch
from mmengine.logging import MessageHub
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import build_optim_wrapper
from torch import nn

from . import tiny

RUN_LENGTH = 10


def at_iteration(number, config=None):
    """Tell what a runner would: the iteration, the length of the run, and its config if there is one."""
    hub = MessageHub.get_current_instance()
    hub.update_info('iter', number)
    hub.update_info('max_iters', RUN_LENGTH)
    if config is not None:
        hub.update_info('cfg', config)


def train(model, data, steps=2, lr=0.01, **optimizer):
    """Train for a few steps; returns the log of each, numbers by name."""
    optimizer = {'type': 'OptimWrapper', 'optimizer': dict(type='SGD', lr=lr), **optimizer}
    wrapper = build_optim_wrapper(model, optimizer)
    model.train()
    logs = []
    for number in range(steps):
        at_iteration(number)
        log = model.train_step(copy.deepcopy(data), wrapper)
        logs.append({key: float(value) for key, value in log.items()})
        assert all(torch.isfinite(torch.tensor(list(logs[-1].values()))))
    return logs


def gradients(model, data):
    """Return, of the objectives' losses alone, the gradients of the student's weights that are not 0, by name."""
    model.zero_grad()
    losses = tiny.step(model, data)
    chosen = [value for key, value in losses.items() if key.startswith('distill.') and 'loss' in key]
    assert chosen
    sum(chosen).backward()
    found = {key: one.grad for key, one in model.student.named_parameters() if one.grad is not None and one.grad.any()}
    model.zero_grad()
    return found


def assert_contracts(model, plain, scope='mmdet', rebuild=None):
    """The checkpoint is the student's; what is ours is restored; the teacher is no part, and is shared by an EMA copy."""
    state = model.state_dict()
    tiny.build(plain, scope=scope).load_state_dict(state, strict=True)
    theirs = {id(one) for teacher in model.teachers.values() for one in teacher.parameters()}
    assert not any(id(one) in theirs for one in model.parameters())
    assert all(one.grad is None and not one.requires_grad for one in _weights_of_teachers(model))
    average = ExponentialMovingAverage(model)
    assert len(list(average.modules())) == len(list(model.modules())) + 1
    for name, teacher in model.teachers.items():
        assert average.module.teachers[name] is teacher
    average.update_parameters(model)
    assert _size(average.module.state_dict()) <= _size(tiny.build(plain, scope=scope).state_dict()) + 20_000
    if rebuild is not None:
        _assert_restored(model, state, rebuild())


def _weights_of_teachers(model):
    return [one for teacher in model.teachers.values() for one in teacher.parameters()]


def _assert_restored(model, state, other):
    file = io.BytesIO()
    torch.save(dict(state_dict=state), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True)['state_dict'])
    own, restored = model.objectives.state_dict(), other.objectives.state_dict()
    assert own.keys() == restored.keys()
    for key, value in own.items():
        assert torch.equal(value, restored[key]), key


def _size(state):
    file = io.BytesIO()
    torch.save(state, file)
    return file.tell()


def make_twins(model):
    """Give the teacher the student's weights, and let the student draw and count nothing: its norms and dropout rest."""
    model.teachers['teacher'].model.load_state_dict(model.student.state_dict())
    make_calm(model)


def make_calm(model):
    """Train, but let the student draw and count nothing: its norms and dropout rest."""
    model.train()
    restless = (nn.modules.batchnorm._BatchNorm, nn.Dropout, nn.Dropout2d, nn.MultiheadAttention)
    for module in model.student.modules():
        if isinstance(module, restless) or type(module).__name__ == 'DropPath':
            module.eval()


def losses_of(model, data):
    """Return the losses of one step, in the modes in which the model is."""
    return model(**model.data_preprocessor(copy.deepcopy(data), True), mode='loss')
