"""Whose answers a folder holds: another's are refused where they would be read."""

import json

import pytest
import torch

from kddense.exchange import Batch, ImageFormat, Question
from kddense.teachers import build_teacher
from kddense.teachers.cache import versions

from ...helpers import tiny
from ...helpers.caching import SEGMENTOR, WIDE, cached, data_of, model_of, train
from ...helpers.variants import as_variants

OTHER = {
    'teacher with other weights': lambda model: tiny.shake(cached(model).model, seed=3),
    'another teacher: its config': lambda model: setattr(cached(model).inner, 'input_scale', 2.0),
    'another pipeline': dict(pipeline='q'),
    'of the seed 0, not 1': dict(seed=1),
    'about 2 images where the data set has 3': dict(images=3),
    'about 2 images where the data set has 1': dict(images=1),
    'computed by torch .*, not ': None,
    'another version of kddense': 'layout',
    "kept as 'fp32', not 'int8'": dict(keep='int8'),
}


@pytest.mark.parametrize('words', OTHER)
def test_answers_of_another_are_refused_in_one_sentence_and_stay(words, tmp_path, monkeypatch):
    data = as_variants(data_of('pixels'))
    first = model_of('pixels', tmp_path)
    logs = train(first, data, steps=1)
    cached(first).store.flush()
    change = OTHER[words]
    options = change if isinstance(change, dict) and 'keep' in change else {}
    model = model_of('pixels', tmp_path, **options)
    changed = as_variants(data_of('pixels'), **change) if isinstance(change, dict) and not options else data
    if callable(change):
        change(model)
    with monkeypatch.context() as patch:
        if change is None:
            patch.setattr(torch, '__version__', '1.0')
        if change == 'layout':
            patch.setattr('kddense.teachers.cache.identity.LAYOUT', 9)
        with pytest.raises(
            ValueError, match=f"^teacher.folder '.*' holds answers .*{words}.*give another folder"
        ) as error:
            train(model, changed, steps=1)
    assert '\n' not in str(error.value)
    again = model_of('pixels', tmp_path)
    assert train(again, data, steps=1) == logs
    assert cached(again).asked == 0


def test_two_teachers_that_begin_at_once_never_read_each_others_answers(tmp_path, monkeypatch):
    """As if both had found an empty folder: the mark is of one of them."""
    data = as_variants(data_of('pixels'))
    models = [model_of('pixels', tmp_path, check=0) for _ in range(2)]
    tiny.shake(cached(models[1]).model, seed=3)
    online = [model_of('pixels') for _ in range(2)]
    tiny.shake(cached(online[1]).model, seed=3)
    for model, expected in zip(models, online, strict=True):
        assert train(model, data) == train(expected, data)
        cached(model).store.flush()
        (tmp_path / 'about.json').unlink()
    assert len(list(tmp_path.glob('*.safetensors'))) == 2


class Multiplies(torch.nn.Module):
    """Shows a multiple of the image: what it does stands in no weight."""

    def __init__(self, factor):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.factor = factor

    def forward(self, images):
        return images * self.weight * self.factor


def test_arguments_of_a_module_tell_teachers_apart(tmp_path):
    batch = Batch(torch.rand(2, 3, 64, 64), as_variants(tiny.segmentation_data())['data_samples'], ImageFormat())
    for factor in (1.0, 1.001, 1.0):
        module = dict(type=Multiplies, factor=factor)
        inner = dict(type='kddense.ModuleTeacher', module=module)
        config = dict(type='kddense.CachedTeacher', folder=str(tmp_path), check=0, teacher=inner)
        teacher = build_teacher(config, 'teacher')
        if factor == 1:
            teacher.answer(Question(frozenset({''})), batch)
            teacher.store.flush()
        else:
            with pytest.raises(
                ValueError, match='holds answers of another teacher: its config, its options or its memory'
            ):
                teacher.answer(Question(frozenset({''})), batch)
    assert teacher.read == 1


def test_versions_are_of_all_libraries_that_layers_come_from():
    timm = pytest.importorskip('timm')
    model = torch.nn.Sequential(timm.layers.LayerNorm2d(4), Multiplies(1.0))
    assert versions(model) == f'{versions()}, timm {timm.__version__}'


def test_other_weights_have_a_folder_of_their_own(tmp_path, told):
    model = model_of('pixels', tmp_path)
    data = as_variants(data_of('pixels'))
    first = train(model, data, steps=1)
    torch.save(tiny.build(WIDE, seed=5, scope='mmseg').state_dict(), tmp_path / 'other.pth')
    cached(model).load(str(tmp_path / 'other.pth'))
    assert cached(model).checkpoint == str(tmp_path / 'other.pth')
    second = train(model, data, steps=1)
    assert first != second
    assert cached(model).folder.parent == tmp_path
    cached(model).store.flush()
    assert json.loads((cached(model).folder / 'about.json').read_text())['weights'].startswith(
        cached(model).folder.name
    )
    assert len([one for one in told if 'GiB are free' in one]) == 2
    folder = cached(model).folder
    torch.save(tiny.build(WIDE, seed=6, scope='mmseg').state_dict(), tmp_path / 'third.pth')
    for checkpoint in ('third', 'other'):  # as a run that is resumed may come by another way
        cached(model).load(str(tmp_path / f'{checkpoint}.pth'))
    assert cached(model).folder == folder
    train(model, data, steps=3)
    assert (cached(model).asked, cached(model)._left_to_check) == (2, 0)


@pytest.mark.parametrize('contents', ['{', '[]', '{}', '12'])
def test_a_damaged_mark(contents, tmp_path):
    (tmp_path / 'about.json').write_text(contents)
    with pytest.raises(ValueError, match=r"teacher.folder '.*' holds answers|about.json is damaged"):
        train(model_of('pixels', tmp_path), as_variants(data_of('pixels')))


def test_the_memory_format_in_which_a_teacher_computes_is_its_own():
    options = [tiny.teacher_of(SEGMENTOR, 'mmseg', channels_last=last) for last in (False, False, True)]
    teacher, moved, last = (build_teacher(one, 'teacher') for one in options)
    moved.to(memory_format=torch.channels_last)  # as kddense.ChannelsLastHook does
    identities = [one.identity()['teacher'] for one in (teacher, moved, last)]
    assert identities[0] != identities[1] == identities[2]


def test_what_a_teacher_with_folded_norms_answers_is_its_own():
    model = tiny.teacher_of(SEGMENTOR, 'mmseg')
    plain, folded = (build_teacher(dict(model, fold_norms=fold), 'teacher') for fold in (False, True))
    assert plain.identity()['weights'] != folded.identity()['weights']
