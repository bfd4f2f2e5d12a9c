"""A teacher whose answers are kept on disk: the same to the last bit, and refused where they are another's."""

import json
import logging
import re

import pytest
import torch
from mmengine.logging import MMLogger
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kddense import CachedTeacher
from kddense.exchange import Batch, ImageFormat, Question
from kddense.teachers import build_teacher
from kddense.teachers.cache import Form, keep, restore, versions
from kddense.teachers.cache.telling import Teller

from ..helpers import depth_estimators, detectors, plugins, tiny
from ..helpers.variants import as_variants

SEGMENTOR = tiny.segmentor('pspnet_r50-d8')
WIDE = tiny.segmentor('pspnet_r50-d8', width=16)
FAMILIES = {
    'pixels': (SEGMENTOR, WIDE, dict(a=dict(type='kddense.CWDObjective'), b=dict(type='kddense.PairWiseObjective'))),
    'taps': (SEGMENTOR, WIDE, dict(a=dict(type='kddense.FeatureObjective', tap='backbone'))),
    'auxiliary': (SEGMENTOR, WIDE, dict(a=dict(type='kddense.PixelWiseObjective', on='auxiliary_head'))),
    'depth': (
        depth_estimators.depth_estimator(),
        depth_estimators.depth_estimator(),
        dict(a=dict(type='kddense.PairWiseObjective'), b=dict(type='kddense.AttentiveDepthObjective', error_range=5.0)),
    ),
    'chen': (
        tiny.faster_rcnn(),
        tiny.faster_rcnn(width=16),
        dict(
            rpn=dict(type='kddense.ChenRPNObjective'),
            roi=dict(type='kddense.ChenRoIObjective'),
            hint=dict(type='kddense.HintObjective'),
        ),
    ),
    'rpn': (tiny.faster_rcnn(), tiny.faster_rcnn(width=16), dict(rpn=dict(type='kddense.ChenRPNObjective'))),
    'cascade': (tiny.cascade_rcnn(), tiny.cascade_rcnn(width=16), dict(roi=dict(type='kddense.ChenRoIObjective'))),
    'fcos': (
        detectors.one_stage('fcos'),
        detectors.one_stage('fcos'),
        dict(
            scores=dict(type='kddense.PixelWiseObjective', on='bbox_head'),
            dense=dict(type='kddense.DenseHintonObjective'),
            pkd=dict(type='kddense.FeatureObjective', tap='neck', loss=dict(type='kddense.PKDLoss')),
        ),
    ),
    'crosskd': (
        detectors.one_stage('atss', {'bbox_head.stacked_convs': 2}),
        detectors.one_stage('atss', {'bbox_head.stacked_convs': 2}, width=12),
        dict(
            cross=dict(type='kddense.CrossKDObjective'),
            fgd=dict(type='kddense.FGDObjective', weight=1e-3),
            gid=dict(type='kddense.GIDObjective', weight=1e-3),
        ),
    ),
    'gfl': (detectors.one_stage('gfl'), detectors.one_stage('gfl'), dict(ld=dict(type='kddense.LDObjective'))),
}


def data_of(name):
    if name == 'depth':
        return depth_estimators.depth_data(count=2)
    return tiny.segmentation_data() if name in ('pixels', 'taps', 'auxiliary') else tiny.detection_data()


def scope_of(name):
    return 'mmseg' if name in ('pixels', 'taps', 'auxiliary', 'depth') else 'mmdet'


def model_of(name, folder=None, **options):
    student, teacher, objectives = FAMILIES[name]
    teacher = tiny.teacher_of(teacher, scope_of(name), **options)
    if folder is not None:
        teacher.update(type='kddense.CachedTeacher', folder=str(folder))
    return distiller_of(student, teacher, objectives, scope_of(name))


def distiller_of(student, teacher, objectives, scope):
    config = dict(type='kddense.Distiller', student=student, teacher=teacher, objectives=objectives)
    model = tiny.build(config, scope=scope)
    tiny.shake(*(one.model for one in model.teachers.values()))
    return model


def train(model, data, steps=3):
    torch.manual_seed(0)
    return plugins.train(model, data, steps)


def bytes_in(folder):
    """Return how many bytes of values the shards of a folder hold."""
    return sum(one.nbytes for file in folder.glob('*.safetensors') for one in load_file(file).values())


def change_values(folder, change):
    """Change the values in the only shard of a folder."""
    (file,) = folder.glob('*.safetensors')
    with safe_open(file, 'pt') as opened:
        about = opened.metadata()
    save_file({key: change(values) for key, values in load_file(file).items()}, file, about)


def cached(model) -> CachedTeacher:
    return model.teachers['teacher']


@pytest.fixture
def told():
    """What the log says."""
    lines = []

    class Keeps(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    logger = MMLogger.get_instance('told', logger_name='told')
    handler = Keeps()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


LOW, MOVED = dict(precision='bf16', channels_last=True), dict(channels_last=True)


@pytest.mark.parametrize(
    'name, options',
    [*((name, {}) for name in FAMILIES), *((name, one) for name in ('pixels', 'chen', 'fcos') for one in (LOW, MOVED))],
    ids=str,
)
def test_what_is_read_gives_the_losses_of_asking_bit_for_bit(name, options, tmp_path):
    data = as_variants(data_of(name))
    online = train(model_of(name, **options), data)
    cold = model_of(name, tmp_path, **options)
    assert train(cold, data) == online
    assert (cached(cold).asked, cached(cold).read) == (1, 2)
    cached(cold).store.flush()
    warm = model_of(name, tmp_path, **options)
    assert train(warm, data) == online
    assert (cached(warm).asked, cached(warm).read) == (0, 3)
    assert len(list(tmp_path.glob('*.safetensors'))) == 1


@pytest.mark.parametrize('name', ['pixels', 'chen', 'fcos'])
def test_no_layer_runs_whose_values_are_kept(name, tmp_path):
    model = model_of(name, tmp_path, check=0)
    data = as_variants(data_of(name))
    train(model, data, steps=1)
    ran = []
    for path in ('backbone', 'neck', 'rpn_head', 'bbox_head', 'decode_head', 'roi_head.bbox_head'):
        if path in dict(cached(model).model.named_modules()):
            part = cached(model).model.get_submodule(path)
            part.register_forward_hook(lambda *_, path=path: ran.append(path))
            next(iter(part.children())).register_forward_hook(lambda *_, path=path: ran.append(path))
    train(model, data, steps=1)
    assert set(ran) <= {'roi_head.bbox_head', 'rpn_head', 'bbox_head'}
    heads = [path for path in ran if path != 'roi_head.bbox_head']
    assert len(heads) <= 1  # the head itself is asked for what it said, none of its layers runs


def test_a_tensor_that_is_asked_for_twice_is_kept_once(tmp_path):
    """Hints are on the neck's maps, which are what the RoI head is given."""
    data = as_variants(data_of('chen'))
    sizes = []
    for number, left_out in enumerate([(), ('hint',)]):
        student, teacher, objectives = FAMILIES['chen']
        objectives = {key: value for key, value in objectives.items() if key not in left_out}
        folder = tmp_path / str(number)
        teacher = dict(tiny.teacher_of(teacher), type='kddense.CachedTeacher', folder=str(folder))
        model = distiller_of(student, teacher, objectives, 'mmdet')
        train(model, data, steps=1)
        cached(model).store.flush()
        sizes.append(bytes_in(folder))
    assert sizes[0] < 1.05 * sizes[1]


def test_images_of_other_partners_pads_and_numbers_are_others(tmp_path):
    model = model_of('chen', tmp_path)
    data = as_variants(tiny.detection_data(sizes=((64, 64), (48, 60)), boxes=(tiny.BOXES, tiny.BOXES)))
    train(model, data, steps=1)
    for changed in (
        {key: values[:1] for key, values in data.items()},  # one image alone: other last bits
        as_variants(tiny.detection_data(sizes=((64, 96), (48, 60)), boxes=(tiny.BOXES, tiny.BOXES))),  # another canvas
    ):
        before = cached(model).asked
        train(model, changed, steps=1)
        assert cached(model).asked == before + 1
    swapped = {key: values[::-1] for key, values in data.items()}
    before = cached(model).asked
    train(model, swapped, steps=1)
    assert cached(model).asked == before


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


def test_disk_need_is_told_before_anything_is_written(tmp_path, told):
    model = model_of('pixels', tmp_path)
    train(model, as_variants(data_of('pixels'), variants=3, images=100), steps=1)
    assert not list(tmp_path.glob('*.safetensors'))
    (line,) = [one for one in told if 'GiB are free' in one]
    number = re.search(r'100 images x 3 variants x ([\d.]+) MiB: all answers take ([\d.e-]+) GiB', line)
    assert float(number[2]) == pytest.approx(300 * float(number[1]) / 1024, rel=0.02)


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


@pytest.mark.parametrize('keep_as', ['bf16', 'int8', 'top_k'])
def test_other_forms_are_read_by_batches_of_any_number_of_images(keep_as, tmp_path):
    teacher = cached(model_of('auxiliary', tmp_path, keep=keep_as, classes=2))
    batch = Batch(torch.rand(2, 3, 64, 64), as_variants(data_of('auxiliary'))['data_samples'])
    question = Question(opinions=frozenset({'auxiliary'}))
    for images in ([0], [1], [0, 1], [1, 0]):
        teacher.answer(question, batch.of(images))
    assert (teacher.asked, teacher.read) == (2, 2)


def test_the_last_records_are_written_without_a_thread(tmp_path, monkeypatch):
    """Python 3.12 starts none any more when a process ends."""
    model = model_of('pixels', tmp_path)
    train(model, as_variants(data_of('pixels')), steps=1)
    monkeypatch.setattr('threading.Thread.start', None)
    cached(model)._finalizer()
    assert len(list(tmp_path.glob('*.safetensors'))) == 1


@pytest.mark.parametrize('value', [float('inf'), float('-inf'), float('nan')])
def test_int8_keeps_values_that_are_no_numbers(value, tmp_path, told):
    maps = torch.randn(2, 3, 4, 4)
    maps[0, 0, 0, 0] = value
    kept = keep(dict(taps=dict(a=maps)), 2, Form('int8'), torch.nn.Identity(), lambda kind: False)
    read, _ = restore(kept.records, torch.nn.Identity(), torch.device('cpu'))
    torch.testing.assert_close(read['taps']['a'], maps, rtol=0, atol=0.02, equal_nan=True)
    Teller('teacher', tmp_path, Form('int8')).before_the_first(kept, dict(images=2, variants=1), 'a')
    assert any('the largest error is 0,' in one for one in told)


@pytest.mark.parametrize('numbers', [(float('nan'), 0.0), (0.0, float('nan')), (float('inf'), 1.0)])
def test_a_number_and_no_number_differ(numbers, tmp_path):
    fresh, stored = (torch.tensor([1.0, number]) for number in numbers)
    teller = Teller('teacher', tmp_path, Form())
    teller.compare([fresh, stored], [fresh, stored])
    with pytest.raises(ValueError, match="holds answers that are not this teacher's"):
        teller.compare([fresh * 0 + 1, fresh], [fresh * 0 + 1, stored])


def test_gradients_of_its_own_losses_are_asked_each_time(tmp_path, told):
    objectives = dict(a=dict(type='kddense.GradientATObjective', tap='backbone', levels=[3]))
    teacher = tiny.teacher_of(SEGMENTOR, 'mmseg')
    data = as_variants(data_of('pixels'))
    logs = train(distiller_of(SEGMENTOR, teacher, objectives, 'mmseg'), data)
    model = distiller_of(
        SEGMENTOR, dict(teacher, type='kddense.CachedTeacher', folder=str(tmp_path / 'new')), objectives, 'mmseg'
    )
    assert train(model, data) == logs
    assert not (tmp_path / 'new').exists()
    assert len([one for one in told if 'asked each time' in one]) == 1


@pytest.mark.parametrize(
    'tap, module, why',
    [
        ('', dict(type='torch.nn.Flatten', start_dim=0), "'taps' is not about images one by one"),
        ('backbone.forward()', None, "'taps/backbone.forward\\(\\)' holds a Call, which cannot be kept"),
    ],
)
def test_values_that_cannot_be_kept_are_asked_each_time(tap, module, why, tmp_path, told):
    inner = dict(type='kddense.ModuleTeacher', module=module) if module else tiny.teacher_of(SEGMENTOR, 'mmseg')
    teacher = build_teacher(dict(type='kddense.CachedTeacher', folder=str(tmp_path), teacher=inner), 'teacher')
    samples = as_variants(tiny.segmentation_data())['data_samples']
    batch = Batch(torch.rand(2, 3, 64, 64), samples, ImageFormat())
    for _ in range(2):
        answer = teacher.answer(Question(frozenset({tap})), batch)
        assert answer.taps.keys() == {tap}
        assert answer.teacher is teacher
    teacher.store.flush()
    assert not list(tmp_path.glob('*.safetensors'))
    assert len([one for one in told if re.search(f'asked each time, as this cannot be kept: {why}', one)]) == 1


def test_a_teacher_of_another_type_is_cached(tmp_path):
    member = tiny.teacher_of(SEGMENTOR, 'mmseg')
    inner = dict(type='kddense.EnsembleTeacher', members=[member, member])
    objectives = FAMILIES['pixels'][2]
    data = as_variants(data_of('pixels'))
    logs = train(distiller_of(SEGMENTOR, inner, objectives, 'mmseg'), data)
    config = dict(type='kddense.CachedTeacher', folder=str(tmp_path), teacher=inner)
    for asked in (1, 0):
        model = distiller_of(SEGMENTOR, config, objectives, 'mmseg')
        assert train(model, data) == logs
        assert cached(model).asked == asked
        cached(model).store.flush()
    plugins.assert_contracts(model, SEGMENTOR, 'mmseg')


@pytest.mark.parametrize(
    'teacher, words',
    [
        (
            dict(type='kddense.AverageTeacher', config=tiny.teacher_of(SEGMENTOR, 'mmseg')['config']),
            'it follows the student',
        ),
        (
            dict(type='kddense.EnsembleTeacher', members=[tiny.teacher_of(SEGMENTOR, 'mmseg')] * 2, by='error'),
            'its members count by their errors, which depend on labels',
        ),
    ],
    ids=['average', 'by error'],
)
def test_answers_that_change_are_refused(teacher, words, tmp_path):
    with pytest.raises(ValueError, match=f'^teacher.teacher cannot be one whose answers are kept: {words}'):
        build_teacher(dict(type='kddense.CachedTeacher', folder=str(tmp_path), teacher=teacher), 'teacher')


def test_members_of_an_ensemble_by_error_may_keep_theirs(tmp_path):
    members = [tiny.teacher_of(SEGMENTOR, 'mmseg')] * 2
    data = as_variants(data_of('pixels'))
    logs = []
    for kept in (False, True, True):
        for number, member in enumerate(members):
            folder = dict(type='kddense.CachedTeacher', folder=str(tmp_path / str(number))) if kept else {}
            members[number] = {**member, **folder}
        teacher = dict(type='kddense.EnsembleTeacher', by='error', members=members)
        model = distiller_of(SEGMENTOR, teacher, FAMILIES['pixels'][2], 'mmseg')
        logs.append(train(model, data, steps=2))
    assert logs[0] == logs[1] == logs[2]
    assert all((one.asked, one.read) == (0, 2) for one in model.teachers['teacher'].members)


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


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(variants=0), 'teacher.variants must be at least 1, got 0'),
        (dict(classes=0), 'teacher.classes must be at least 1, got 0'),
        (dict(check=-1), 'teacher.check must be at least 0, got -1'),
        (dict(spare=-1.0), 'teacher.spare must be at least 0 GiB, got -1'),
        (dict(keep='int4'), "teacher.keep must be one of 'fp32', 'bf16', 'int8', 'top_k', got 'int4'"),
        (dict(foldr='x'), r"teacher has no key 'foldr', only .*folder"),
        (dict(teacher=dict(checkpoint=None)), 'teacher.checkpoint stands beside `teacher`, which has its own'),
    ],
    ids=lambda value: str(value)[:20],
)
def test_bad_options(options, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        model_of('pixels', tmp_path, **options)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').write_text('')
    model = model_of('pixels', tmp_path / 'file' / 'cache')
    with pytest.raises(ValueError, match=r"teacher.folder '.*' cannot be used: Not a directory"):
        train(model, as_variants(data_of('pixels')))


@pytest.mark.parametrize('contents', ['{', '[]', '{}', '12'])
def test_a_damaged_mark(contents, tmp_path):
    (tmp_path / 'about.json').write_text(contents)
    with pytest.raises(ValueError, match=r"teacher.folder '.*' holds answers|about.json is damaged"):
        train(model_of('pixels', tmp_path), as_variants(data_of('pixels')))


def test_images_that_do_not_say_which_variant_they_are(tmp_path):
    with pytest.raises(
        ValueError, match=r'^train_dataloader.dataset must be a kddense.VariantDataset around the data set'
    ):
        train(model_of('pixels', tmp_path), data_of('pixels'))


def test_another_number_of_variants(tmp_path):
    with pytest.raises(ValueError, match=r'^teacher.variants is 3, but the data set has 2 \(train_dataloader'):
        train(model_of('pixels', tmp_path, variants=3), as_variants(data_of('pixels'), variants=2))


def test_batches_that_are_augmented_as_wholes_are_refused(tmp_path):
    from mmdet.registry import MODELS

    @MODELS.register_module(name='DrawsColours', force=True)
    class DrawsColours(torch.nn.Module):
        """Draws for a whole batch."""

    augments = [dict(type='mmdet.DrawsColours')]
    student = tiny.faster_rcnn({'data_preprocessor.batch_augments': augments})
    teacher = dict(tiny.teacher_of(tiny.faster_rcnn()), type='kddense.CachedTeacher', folder=str(tmp_path))
    with pytest.raises(
        ValueError, match=r'student.data_preprocessor.batch_augments: DrawsColours draws for whole batches'
    ):
        distiller_of(student, teacher, FAMILIES['rpn'][2], 'mmdet')


def test_keys_that_are_no_names_cannot_be_kept():
    with pytest.raises(ValueError, match="'taps/a' holds a dict, which cannot be kept"):
        keep(dict(taps=dict(a={3: torch.rand(2, 3)})), 2, Form(), torch.nn.Identity(), lambda kind: False)


def test_unlabelled_images_that_do_not_say_which_variant_they_are(tmp_path):
    data = data_of('pixels')
    for sample in data['data_samples']:
        sample.set_metainfo(dict(unlabelled=True))
    words = (
        '^custom_hooks.UnlabelledImagesHook.dataset must be a kddense.VariantDataset around the data set: the answers'
    )
    with pytest.raises(ValueError, match=words):
        train(model_of('pixels', tmp_path), data)


def test_the_memory_format_in_which_a_teacher_computes_is_its_own():
    options = [tiny.teacher_of(SEGMENTOR, 'mmseg', channels_last=last) for last in (False, False, True)]
    teacher, moved, last = (build_teacher(one, 'teacher') for one in options)
    moved.to(memory_format=torch.channels_last)  # as kddense.ChannelsLastHook does
    identities = [one.identity()['teacher'] for one in (teacher, moved, last)]
    assert identities[0] != identities[1] == identities[2]
