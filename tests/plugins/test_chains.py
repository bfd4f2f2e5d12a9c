"""TAKD and BAN: runs as teachers, generations; and a teacher whose weights change on the way."""

import pytest
import torch

import kddense
from kddense.exchange import Batch, Question
from kddense.registry import MODELS

from ..helpers import plugins, tiny

TEACHER, ASSISTANT, STUDENT = (tiny.segmentor('pspnet_r50-d8', width=width) for width in (16, 12, 8))
DATA = tiny.segmentation_data()
SOFT = dict(s=dict(type='kddense.FeatureObjective', tap='decode_head', loss=dict(type='kddense.HintonLoss')))


def distillation(student, teacher, checkpoint, **options):
    teacher = dict(config=dict(model=teacher, default_scope='mmseg'), checkpoint=str(checkpoint), **options)
    return dict(type='kddense.Distiller', student=student, teacher=teacher, objectives=SOFT)


@pytest.fixture(scope='module')
def route(tmp_path_factory):
    """Checkpoints of a teacher's own training, as mmengine's runner writes them."""
    folder = tmp_path_factory.mktemp('route')
    files = []
    for seed in range(2):
        model = tiny.build(TEACHER, scope='mmseg')
        tiny.shake(model, seed=seed)
        files.append(folder / f'iter_{seed}.pth')
        torch.save(dict(meta=dict(), state_dict=model.state_dict()), files[-1])
    return files


def test_the_run_of_an_assistant_is_the_teacher_of_the_student(route, tmp_path):
    """TAKD (Mirzadeh et al. 2020): the assistant is named by the config of its own distillation."""
    first = distillation(ASSISTANT, TEACHER, route[0])
    assistant = tiny.build(first, scope='mmseg')
    plugins.train(assistant, DATA, steps=1)
    torch.save(dict(state_dict=assistant.state_dict()), tmp_path / 'assistant.pth')
    model = tiny.build(distillation(STUDENT, first, tmp_path / 'assistant.pth'), scope='mmseg')
    taught = model.teachers['teacher'].model
    for (key, one), other in zip(taught.state_dict().items(), assistant.student.state_dict().values(), strict=True):
        assert torch.equal(one, other), key
    plugins.train(model, DATA, steps=1)
    plugins.assert_contracts(model, STUDENT, 'mmseg')


def test_each_generation_teaches_the_next(tmp_path):
    """BAN (Furlanello et al. 2018)."""
    weights = tiny.build(STUDENT, scope='mmseg').state_dict()
    for generation in range(2):
        torch.save(weights, tmp_path / f'{generation}.pth')
        model = tiny.build(
            distillation(STUDENT, STUDENT, tmp_path / f'{generation}.pth'), seed=generation, scope='mmseg'
        )
        assert torch.equal(
            model.teachers['teacher'].model.state_dict()['decode_head.conv_seg.bias'],
            weights['decode_head.conv_seg.bias'],
        )
        plugins.train(model, DATA, steps=1)
        weights = dict(model.state_dict())


OPTIONS = [
    {},
    dict(precision='bf16'),
    dict(precision='bf16', channels_last=True),
    dict(precision='fp16'),
]


@pytest.mark.parametrize('options', OPTIONS, ids=lambda options: ' '.join(map(str, options.values())) or 'fp32')
def test_a_teacher_that_loads_on_the_way_is_one_built_of_that_checkpoint(route, options):
    model = tiny.build(distillation(STUDENT, TEACHER, route[0], **options), scope='mmseg')
    teacher = model.teachers['teacher']
    shapes = {key: (value.shape, value.dtype) for key, value in teacher.state_dict().items()}
    for checkpoint in (route[0], route[0], route[1]):
        teacher.load(str(checkpoint))
        if options.get('precision') != 'fp16':  # no convolutions in float16 on every CPU
            plugins.train(model, DATA, steps=1)
    fresh = tiny.build(distillation(STUDENT, TEACHER, route[1], **options), scope='mmseg').teachers['teacher']
    assert shapes == {key: (value.shape, value.dtype) for key, value in teacher.state_dict().items()}
    assert_same_state(teacher, fresh)
    if options.get('precision') != 'fp16':
        question = Question(frozenset({'backbone'}), opinions=frozenset({'pixels'}))
        batch = Batch(**model.data_preprocessor(DATA, True), image_format=model.image_format)
        one, other = (each.answer(question, batch) for each in (teacher, fresh))
        assert torch.equal(one.opinions['pixels'][0].logits, other.opinions['pixels'][0].logits)
        assert all(map(torch.equal, one.taps['backbone'], other.taps['backbone']))
        plugins.assert_contracts(model, STUDENT, 'mmseg')
    for path in ('backbone.layer1.0.bn1', 'decode_head.bottleneck.bn'):
        norms = [one.view.norm_at(path) for one in (teacher, fresh)]
        assert torch.equal(norms[0].running_var, norms[1].running_var)


def assert_same_state(one, other):
    other = other.state_dict()
    for key, value in one.state_dict().items():
        assert torch.equal(value, other[key]), key


def test_a_checkpoint_of_another_model_leaves_the_teacher_as_it_was(route, tmp_path):
    model = tiny.build(distillation(STUDENT, TEACHER, route[0]), scope='mmseg')
    teacher = model.teachers['teacher']
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    torch.save(tiny.build(STUDENT, scope='mmseg').state_dict(), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match="teacher.checkpoint '.*other.pth' is of another architecture"):
        teacher.load(str(tmp_path / 'other.pth'))
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert teacher.checkpoint == str(route[0])


def test_an_ensemble_says_that_it_loads_no_single_checkpoint(route):
    members = [dict(config=dict(model=TEACHER, default_scope='mmseg'), checkpoint=str(one)) for one in route]
    teacher = dict(type='kddense.EnsembleTeacher', members=members)
    model = tiny.build(dict(type='kddense.Distiller', student=STUDENT, teacher=teacher, objectives=SOFT), scope='mmseg')
    with pytest.raises(ValueError, match='cannot load a checkpoint'):
        model.teachers['teacher'].load(str(route[0]))
    assert isinstance(model.teachers['teacher'].members[0], kddense.FrozenTeacher)
    assert MODELS.get('kddense.Distiller') is kddense.Distiller
