"""A teacher in a precision that the device has no arithmetic for is told of, once."""

import pytest
import torch

from kddense.teachers import slow_precision
from kddense.teachers.slow_precision import has_arithmetic, tell_if_slow

CPU = torch.device('cpu')


class Processor:
    """What PyTorch says of a CPU."""

    def __init__(self, bf16, fp16):
        self._is_mkldnn_bf16_supported = lambda: bf16
        self._is_mkldnn_fp16_supported = lambda: fp16


@pytest.fixture
def said(monkeypatch):
    told = []
    monkeypatch.setattr(slow_precision, 'print_log', lambda text, **_: told.append(text))
    tell_if_slow.cache_clear()
    yield told
    tell_if_slow.cache_clear()


@pytest.mark.parametrize('bf16', [False, True])
@pytest.mark.parametrize('fp16', [False, True])
def test_a_cpu_is_asked_what_it_computes_in(bf16, fp16, monkeypatch):
    monkeypatch.setattr(torch.ops, 'mkldnn', Processor(bf16, fp16))

    assert has_arithmetic(torch.float32, CPU)
    assert has_arithmetic(torch.bfloat16, CPU) == bf16
    assert has_arithmetic(torch.float16, CPU) == fp16


@pytest.mark.parametrize(('capability', 'bf16'), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_has_bfloat16_since_ampere(capability, bf16, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: capability)

    assert has_arithmetic(torch.bfloat16, torch.device('cuda')) == bf16
    assert has_arithmetic(torch.float16, torch.device('cuda'))


def test_this_machine_can_be_asked():
    assert has_arithmetic(torch.bfloat16, CPU) == torch.ops.mkldnn._is_mkldnn_bf16_supported()


def test_it_is_told_once(said, monkeypatch):
    monkeypatch.setattr(torch.ops, 'mkldnn', Processor(bf16=False, fp16=True))
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.bfloat16):
        tell_if_slow(dtype, CPU, 'teacher')

    assert said == [
        "teacher.precision 'bf16': this CPU has no arithmetic for it, and computes it many times slower than float32: "
        "leave it out, or give 'fp32'"
    ]
