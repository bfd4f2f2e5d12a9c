"""A teacher whose answers are kept on disk: the same to the last bit, and asked where they cannot be kept."""

import re

import pytest
import torch

from kddense.exchange import Batch, ImageFormat, Question
from kddense.teachers import build_teacher
from kddense.teachers.cache import Form, keep

from ..helpers import plugins, tiny
from ..helpers.caching import FAMILIES, SEGMENTOR, bytes_in, cached, data_of, distiller_of, model_of, train
from ..helpers.variants import as_variants

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
