"""In which form values are kept: how large they are, what is lost."""

import re

import pytest
import torch

from kddense.exchange import Batch, Question
from kddense.teachers.cache import Form, keep, restore
from kddense.teachers.cache.telling import Teller

from ...helpers.caching import bytes_in, cached, data_of, model_of, train
from ...helpers.variants import as_variants


@pytest.mark.parametrize('keep, most', [('bf16', 0.6), ('int8', 0.35), ('top_k', 0.95)])
def test_other_forms_are_smaller_and_told_and_do_not_depend_on_what_is_there(keep, most, tmp_path, told):
    data = as_variants(data_of('auxiliary'))
    online = train(model_of('auxiliary'), data)
    exact = model_of('auxiliary', tmp_path / 'exact')
    train(exact, data)
    options = dict(keep=keep, classes=2)
    cold, again = (model_of('auxiliary', tmp_path / keep, **options) for _ in range(2))
    logs = train(cold, data)
    assert logs != online
    assert logs[0]['loss'] == pytest.approx(online[0]['loss'], rel=0.02)
    for model in (exact, cold):
        cached(model).store.flush()
    sizes = [bytes_in(tmp_path / one) for one in ('exact', keep)]
    assert sizes[1] < most * sizes[0]
    assert train(again, data) == logs
    assert cached(again).asked == 0
    assert any(
        re.search(rf"kept as '{keep}': the largest error is [\d.e-]+, the root of the mean square", x) for x in told
    )


def test_values_of_a_bfloat16_teacher_take_two_bytes(tmp_path):
    sizes = []
    for precision in ('fp32', 'bf16'):
        model = model_of('auxiliary', tmp_path / precision, precision=precision)
        train(model, as_variants(data_of('auxiliary')), steps=1)
        cached(model).store.flush()
        sizes.append(bytes_in(tmp_path / precision))
    assert sizes[1] < 0.6 * sizes[0]


@pytest.mark.parametrize('keep_as', ['bf16', 'int8', 'top_k'])
def test_other_forms_are_read_by_batches_of_any_number_of_images(keep_as, tmp_path):
    teacher = cached(model_of('auxiliary', tmp_path, keep=keep_as, classes=2))
    batch = Batch(torch.rand(2, 3, 64, 64), as_variants(data_of('auxiliary'))['data_samples'])
    question = Question(opinions=frozenset({'auxiliary'}))
    for images in ([0], [1], [0, 1], [1, 0]):
        teacher.answer(question, batch.of(images))
    assert (teacher.asked, teacher.read) == (2, 2)


@pytest.mark.parametrize('value', [float('inf'), float('-inf'), float('nan')])
def test_int8_keeps_values_that_are_no_numbers(value, tmp_path, told):
    maps = torch.randn(2, 3, 4, 4)
    maps[0, 0, 0, 0] = value
    kept = keep(dict(taps=dict(a=maps)), 2, Form('int8'), torch.nn.Identity(), lambda kind: False)
    read, _ = restore(kept.records, torch.nn.Identity(), torch.device('cpu'))
    torch.testing.assert_close(read['taps']['a'], maps, rtol=0, atol=0.02, equal_nan=True)
    Teller('teacher', tmp_path, Form('int8')).before_the_first(kept, dict(images=2, variants=1, pipeline=''), 'a')
    assert any('the largest error is 0,' in one for one in told)
