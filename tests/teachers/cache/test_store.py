"""Records in files: damaged, of several processes, on a full disk."""

import json

import pytest
import torch
from safetensors import safe_open

from kddense.teachers.cache.store import Record

from ...helpers import tiny
from ...helpers.caching import cached, data_of, model_of, train
from ...helpers.variants import as_variants


@pytest.mark.parametrize('damage', ['cut', 'empty', 'noise'])
def test_a_damaged_shard_is_asked_again(damage, tmp_path, told):
    data = as_variants(data_of('pixels'))
    first = model_of('pixels', tmp_path)
    logs = train(first, data)
    cached(first).store.flush()
    (shard,) = tmp_path.glob('*.safetensors')
    contents = shard.read_bytes()
    shard.write_bytes(dict(cut=contents[:-100], empty=b'', noise=b'\x07' * 1000)[damage])
    model = model_of('pixels', tmp_path)
    assert train(model, data) == logs
    assert cached(model).asked == 1
    assert any(f"the shard '{shard.name}' is damaged or cut off, its answers are asked again" in one for one in told)


def test_a_full_disk_ends_the_cache_and_not_the_training(tmp_path, told, monkeypatch):
    def full(file, contents):
        raise OSError(28, 'No space left on device')

    data = as_variants(data_of('pixels'))
    logs = train(model_of('pixels'), data)
    model = model_of('pixels', tmp_path)
    monkeypatch.setattr('kddense.teachers.cache.store.write_whole', full)
    assert train(model, data) == logs
    assert not list(tmp_path.iterdir())
    assert len([one for one in told if 'No space left' in one and 'all else is asked each time' in one]) == 1
    told.clear()
    monkeypatch.undo()
    model = model_of('pixels', tmp_path)
    train(model, data, steps=1)
    monkeypatch.setattr('kddense.teachers.cache.store.write_whole', full)
    cached(model).store.flush()
    assert cached(model).store.has_ended
    assert len([one for one in told if 'No space left' in one and 'all else is asked each time' in one]) == 1
    assert train(model_of('pixels', tmp_path), data) == logs


def test_a_folder_that_may_only_be_read_is_read(tmp_path, told, monkeypatch):
    def read_only(file, contents):
        raise OSError(30, 'Read-only file system')

    data = as_variants(data_of('pixels'))
    logs = train(model_of('pixels'), data)
    first = model_of('pixels', tmp_path)
    train(first, data, steps=1)
    cached(first).store.flush()
    monkeypatch.setattr('kddense.teachers.cache.store.write_whole', read_only)
    model = model_of('pixels', tmp_path)
    assert train(model, data) == logs
    assert cached(model).asked == 0, 'what is there is read'
    cached(model).store.add('another', Record('', [torch.ones(1)]))
    cached(model).store.flush()
    assert len([one for one in told if 'Read-only' in one and 'all else is asked each time' in one]) == 1


def test_a_disk_on_which_the_folder_cannot_be_made(tmp_path, told, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    data = as_variants(data_of('pixels'))
    logs = train(model_of('pixels'), data)
    for keep_as in ('fp32', 'bf16'):
        model = model_of('pixels', tmp_path / 'new', keep=keep_as)
        with monkeypatch.context() as patch:
            patch.setattr('pathlib.Path.mkdir', full)
            found = train(model, data)
        assert found == logs or keep_as == 'bf16'
        assert not (tmp_path / 'new').exists()
        assert len([one for one in told if 'No space left' in one and 'all else is asked each time' in one]) == 1
        told.clear()


def test_spare_is_left_free(tmp_path, told):
    model = model_of('pixels', tmp_path, spare=1e9)
    train(model, as_variants(data_of('pixels')))
    cached(model).store.flush()
    assert not list(tmp_path.glob('*.safetensors'))
    assert any('nothing more can be kept' in one for one in told)


def test_several_fill_one_folder_and_see_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr('kddense.teachers.cache.store.PATIENCE', 0.0)
    one, other = (model_of('pixels', tmp_path) for _ in range(2))
    first, second = (as_variants(tiny.segmentation_data(size), images=4) for size in ((64, 64), (64, 96)))
    train(one, first, steps=1)
    train(other, second, steps=1)
    for model in (one, other):
        cached(model).store.flush()
    train(one, second, steps=1)
    train(other, first, steps=1)
    assert (cached(one).asked, cached(other).asked) == (1, 1)
    assert len(list(tmp_path.glob('*.safetensors'))) == 2


def test_what_is_there_is_not_written_again(tmp_path):
    model = model_of('pixels', tmp_path)
    data = data_of('pixels')
    train(model, as_variants(data, images=4), steps=1)
    cached(model).store.flush()
    data['inputs'][1] = data['inputs'][1].flip(-1)
    train(model, as_variants(data, images=4), steps=1)
    cached(model).store.flush()
    assert cached(model).asked == 2
    records = [safe_open(file, 'pt').metadata()['records'] for file in tmp_path.glob('*.safetensors')]
    assert sorted(len(json.loads(one)) for one in records) == [1, 2]


def test_the_last_records_are_written_without_a_thread(tmp_path, monkeypatch):
    """Python 3.12 starts none any more when a process ends."""
    model = model_of('pixels', tmp_path)
    train(model, as_variants(data_of('pixels')), steps=1)
    monkeypatch.setattr('threading.Thread.start', None)
    cached(model)._finalizer()
    assert len(list(tmp_path.glob('*.safetensors'))) == 1


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').write_text('')
    model = model_of('pixels', tmp_path / 'file' / 'cache')
    with pytest.raises(ValueError, match=r"teacher.folder '.*' cannot be used: Not a directory"):
        train(model, as_variants(data_of('pixels')))
