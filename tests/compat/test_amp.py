"""``--amp`` where there is no GPU."""

import pytest
import torch
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from kddense.compat import amp


@pytest.fixture
def model():
    return nn.Linear(3, 2)


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    monkeypatch.setitem(OPTIM_WRAPPERS.module_dict, 'AmpOptimWrapper', AmpOptimWrapper)


def on_device(monkeypatch, device):
    monkeypatch.setattr(amp, 'get_device', lambda: device)
    amp.register_amp()


def build(model, **options):
    options = dict(type='AmpOptimWrapper', loss_scale='dynamic', **options)
    return OPTIM_WRAPPERS.build(dict(options, optimizer=torch.optim.SGD(model.parameters(), lr=0.1)))


def test_forward_in_bfloat16_and_weights_in_float32(model, monkeypatch):
    on_device(monkeypatch, 'cpu')
    wrapper = build(model)
    before = model.weight.detach().clone()
    with wrapper.optim_context(model):
        output = model(torch.ones(4, 3))
    assert output.dtype == torch.bfloat16
    wrapper.update_params(output.float().sum())
    torch.testing.assert_close(model.weight.detach(), before - 0.1 * 4)
    assert model(torch.ones(1, 3)).dtype == torch.float32


def test_a_gpu_keeps_mmengines_own(monkeypatch):
    on_device(monkeypatch, 'cuda')
    assert OPTIM_WRAPPERS.get('AmpOptimWrapper') is AmpOptimWrapper


def test_other_types_are_refused(model, monkeypatch):
    on_device(monkeypatch, 'cpu')
    with pytest.raises(ValueError, match=r"optim_wrapper.dtype must be 'bfloat16' on a CPU, got 'float16'"):
        build(model, dtype='float16')
