"""What a cache says before it writes, and of what it reads."""

import re

import pytest
import torch

from kddense.teachers.cache import Form
from kddense.teachers.cache.forms import unpack
from kddense.teachers.cache.telling import Teller

from ...helpers.caching import cached, change_values, data_of, model_of, train
from ...helpers.variants import as_variants


def test_disk_need_is_told_before_anything_is_written(tmp_path, told):
    model = model_of('pixels', tmp_path)
    train(model, as_variants(data_of('pixels'), variants=3, images=100), steps=1)
    assert not list(tmp_path.glob('*.safetensors'))
    (line,) = [one for one in told if 'GiB are free' in one]
    number = re.search(r'100 images x 3 variants x ([\d.]+) MiB: all answers take ([\d.e-]+) GiB', line)
    assert float(number[2]) == pytest.approx(300 * float(number[1]) / 1024, rel=0.02)


def test_answers_that_are_no_more_this_teachers_are_found_at_the_start(tmp_path):
    """As if an older kddense had written them with a fault that no name tells."""
    data = as_variants(data_of('pixels'))
    first = model_of('pixels', tmp_path)
    train(first, data, steps=1)
    cached(first).store.flush()
    change_values(tmp_path, lambda values: values * 0.9)
    with pytest.raises(ValueError, match=r"^teacher.folder '.*' holds answers that are not this teacher's"):
        train(model_of('pixels', tmp_path), data, steps=1)


def test_small_differences_are_told(tmp_path, told):
    data = as_variants(data_of('pixels'))
    first = model_of('pixels', tmp_path)
    train(first, data, steps=1)
    cached(first).store.flush()
    change_values(tmp_path, lambda values: values.nextafter(values + 1))
    train(model_of('pixels', tmp_path), data, steps=2)
    assert len([one for one in told if 'not bit for bit one without the cache' in one]) == 1


@pytest.mark.parametrize('numbers', [(float('nan'), 0.0), (0.0, float('nan')), (float('inf'), 1.0)])
def test_a_number_and_no_number_differ(numbers, tmp_path):
    fresh, stored = (torch.tensor([1.0, number]) for number in numbers)
    teller = Teller('teacher', tmp_path, Form())
    teller.compare([fresh, stored], [fresh, stored])
    with pytest.raises(ValueError, match="holds answers that are not this teacher's"):
        teller.compare([fresh * 0 + 1, fresh], [fresh * 0 + 1, stored])


@pytest.mark.parametrize('noise', [1e-5, 1e-4])
def test_rounding_that_moves_a_class_out_of_the_likeliest_is_told(noise, tmp_path, told):
    """Two logits that are nearly equal change places at the edge of those that are kept: few of all."""
    form, generator = Form('top_k', classes=5), torch.Generator().manual_seed(0)
    logits = torch.randn(2, 19, 64, 64, generator=generator)
    rounded = logits * (1 + noise * torch.randn(logits.shape, generator=generator))

    def read(values):
        spec, images = form.pack(values, sigmoid=False)
        return unpack(spec, images, pin=False)

    teller = Teller('teacher', tmp_path, form)
    teller.compare([read(rounded)], [read(logits)])
    assert len([one for one in told if 'not bit for bit one without the cache' in one]) == 1
    with pytest.raises(ValueError, match="holds answers that are not this teacher's"):
        teller.compare([read(torch.randn(2, 19, 64, 64, generator=generator))], [read(logits)])
    with pytest.raises(ValueError, match="holds answers that are not this teacher's"):
        teller.compare([read(logits * 0.9)], [read(logits)])
