"""Several teachers and ensembles: whom an objective learns from."""

import pytest
import torch
from torch.nn import functional as F

from kddense import Objective
from kddense.exchange import Batch, Question
from kddense.registry import MODELS

from ..helpers import detectors, plugins, tiny

STUDENT = tiny.segmentor('pspnet_r50-d8')
WIDE = [tiny.segmentor('pspnet_r50-d8', width=width) for width in (16, 12)]
DATA = tiny.segmentation_data()


def distiller(objectives, scope='mmseg', student=STUDENT, **options):
    model = tiny.build(dict(type='kddense.Distiller', student=student, objectives=objectives, **options), scope=scope)
    for number, teacher in enumerate(model.teachers.values()):
        for seed, member in enumerate(getattr(teacher, 'members', [teacher])):
            tiny.shake(member.model, seed=10 * number + seed)
    return model


@MODELS.register_module()
class MeanOfTeachers(Objective):
    """Soft targets of the mean of what all teachers say."""

    kinds = frozenset({'pixels'})
    takes_several = True

    def forward(self, seen, taught):
        (own,) = seen.opinions['pixels']
        mean = sum(one.opinions['pixels'][0].logits.softmax(1) for one in taught.values()) / len(taught)
        return dict(loss=F.kl_div(own.logits.log_softmax(1), mean, reduction='batchmean') / own.logits[0, 0].numel())


@pytest.mark.parametrize('named', [None, ['a', 'b']])
def test_one_objective_learns_from_two(named):
    teachers = dict(a=tiny.teacher_of(WIDE[0], 'mmseg'), b=tiny.teacher_of(WIDE[1], 'mmseg', precision='bf16'))
    build = lambda: distiller(dict(m=dict(type='kddense.MeanOfTeachers', teacher=named)), teacher=teachers)  # noqa: E731
    model = build()
    assert model.objectives['m'].taught_by == ('a', 'b')
    assert 'backbone.layer1.0.conv1.weight' in plugins.gradients(model, DATA)
    plugins.train(model, DATA)
    plugins.assert_contracts(model, STUDENT, 'mmseg', rebuild=build)


def test_an_objective_of_one_teacher_refuses_two():
    teachers = dict(a=tiny.teacher_of(WIDE[0], 'mmseg'), b=tiny.teacher_of(WIDE[1], 'mmseg'))
    soft = dict(type='kddense.FeatureObjective', tap='decode_head', teacher=['a', 'b'])
    sentence = 'objectives.s: teacher must be one name, got a, b: FeatureObjective compares with one teacher; write one'
    with pytest.raises(ValueError, match=sentence):
        distiller(dict(s=soft), teacher=teachers)
    with pytest.raises(ValueError, match=r"objectives.s: teacher must be one of a, b, got \['a', 'c'\]"):
        distiller(dict(s=dict(type='kddense.MeanOfTeachers', teacher=['a', 'c'])), teacher=teachers)


@MODELS.register_module()
class Listens(Objective):
    """Keeps what it was given."""

    def __init__(self, kind=None, tap=None, **kwargs):
        super().__init__(**kwargs)
        self.kinds = frozenset({kind} if kind else ())
        self.student_taps = self.teacher_taps = frozenset({tap} if tap else ())

    def forward(self, seen, taught):
        self.heard = seen, taught
        return dict(loss=seen.batch.inputs.sum() * 0)


FAMILIES = {
    'pixels': (STUDENT, WIDE, 'mmseg', DATA, lambda one: one.logits.softmax(1)),
    'roi': (
        tiny.faster_rcnn(),
        [tiny.faster_rcnn(width=16), tiny.faster_rcnn(fpn=32)],
        'mmdet',
        tiny.detection_data(),
        lambda one: one.logits.softmax(1),
    ),
    'dense': (
        detectors.one_stage('gfl'),
        [detectors.one_stage('gfl', width=16), detectors.one_stage('gfl', fpn=32)],
        'mmdet',
        tiny.detection_data(),
        lambda one: one.logits.sigmoid(),
    ),
}


def ensemble_of(members, scope, **options):
    return dict(type='kddense.EnsembleTeacher', members=[tiny.teacher_of(one, scope, **options) for one in members])


def batch_of(model, data):
    return Batch(**model.data_preprocessor(data, True), image_format=model.image_format)


def answers_of_members(model, data, question):
    batch = batch_of(model, data)
    return [member.answer(question, batch) for member in model.teachers['teacher'].members]


@pytest.mark.parametrize('kind', list(FAMILIES))
def test_an_ensemble_says_the_mean_of_its_members_probabilities(kind):
    student, members, scope, data, probabilities = FAMILIES[kind]
    listener = dict(l=dict(type='kddense.Listens', kind=kind))
    model = distiller(listener, scope, student, teacher=ensemble_of(members, scope))
    tiny.step(model, data)
    seen, taught = model.objectives['l'].heard
    question = Question(opinions=frozenset({kind}), samples=seen.samples if kind != 'pixels' else {})
    answers = answers_of_members(model, data, question)
    (found,), (first, second) = taught.opinions[kind], [one.opinions[kind][0] for one in answers]
    expected = (probabilities(first) + probabilities(second)) / 2
    torch.testing.assert_close(probabilities(found), expected, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(probabilities(first), probabilities(second), atol=1e-3)
    if kind == 'roi':
        torch.testing.assert_close(found.deltas, (first.deltas + second.deltas) / 2)
    if kind == 'dense':
        bins = [one.distributions_at(seen.samples['dense'][0].index).softmax(2) for one in (found, first, second)]
        torch.testing.assert_close(bins[0], (bins[1] + bins[2]) / 2, rtol=1e-4, atol=1e-6)


def test_an_ensemble_shows_the_mean_at_a_tap():
    members = [WIDE[0], WIDE[0]]
    model = distiller(dict(l=dict(type='kddense.Listens', tap='backbone')), teacher=ensemble_of(members, 'mmseg'))
    tiny.step(model, DATA)
    _, taught = model.objectives['l'].heard
    first, second = (one.taps['backbone'] for one in answers_of_members(model, DATA, Question(frozenset({'backbone'}))))
    for found, one, other in zip(taught.taps['backbone'], first, second, strict=True):
        assert torch.equal(found, (one + other) / 2)


def test_an_ensemble_has_the_mean_of_its_members_gradients():
    model = distiller(dict(l=dict(type='kddense.Listens', tap='backbone')), teacher=ensemble_of([WIDE[0]] * 2, 'mmseg'))
    question = Question(gradients=frozenset({'backbone'}))
    found = model.teachers['teacher'].answer(question, batch_of(model, DATA)).gradients['backbone']
    first, second = (one.gradients['backbone'] for one in answers_of_members(model, DATA, question))
    assert not torch.equal(first[0], second[0])
    for mean, one, other in zip(found, first, second, strict=True):
        assert torch.equal(mean, (one + other) / 2)


@pytest.mark.parametrize('kind', ['CWDObjective', 'PixelWiseObjective'])
def test_any_recipe_learns_from_an_ensemble(kind):
    ensemble = ensemble_of(WIDE, 'mmseg', precision='bf16')
    model = distiller(dict(l=dict(type=f'kddense.{kind}')), teacher=ensemble)
    assert 'backbone.layer1.0.conv1.weight' in plugins.gradients(model, DATA)
    plugins.train(model, DATA)
    plugins.assert_contracts(model, STUDENT, 'mmseg')


@pytest.mark.parametrize('members', [[], [tiny.teacher_of(STUDENT, 'mmseg')], dict(a=1)])
def test_an_ensemble_has_at_least_two_members(members):
    with pytest.raises(ValueError, match='teacher.members must be a list of'):
        distiller({}, teacher=dict(type='kddense.EnsembleTeacher', members=members))
