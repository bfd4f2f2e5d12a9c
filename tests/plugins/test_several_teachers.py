"""Several teachers, ensembles, a peer, and none: whom an objective learns from."""

import itertools

import pytest
import torch
from mmengine.hooks import Hook
from torch.nn import functional as F

from kddense import Objective
from kddense.exchange import Batch, Question
from kddense.losses import soft_target_divergence
from kddense.registry import MODELS
from kddense.taps import Taps

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


# --- no teacher ---------------------------------------------------------------------------------------------------------


@MODELS.register_module()
class Mutual(Objective):
    """Deep mutual learning (Zhang et al. 2018): a peer learns the task, and each from the other."""

    student_taps = frozenset({'decode_head'})
    loss_names = ('loss', 'loss_peer_kl', 'loss_peer_task')
    own_losses = frozenset({'loss_peer_kl', 'loss_peer_task'})

    def __init__(self, peer, **kwargs):
        super().__init__(**kwargs)
        self.peer = MODELS.build(peer)

    def forward(self, seen, taught):
        with Taps(self.peer, ['decode_head'], 'peer') as heard:
            losses = self.peer(seen.batch.inputs, seen.batch.data_samples, mode='loss')
        own, other = seen.taps['decode_head'], heard['decode_head']
        return dict(
            loss=soft_target_divergence(own, other.detach(), 1.0),
            loss_peer_kl=soft_target_divergence(other, own.detach(), 1.0),
            loss_peer_task=sum(value for key, value in losses.items() if 'loss' in key),
        )


@pytest.mark.parametrize('optimizer', [{}, dict(type='AmpOptimWrapper', dtype='bfloat16')], ids=['fp32', 'bf16'])
def test_two_students_learn_from_each_other_without_a_teacher(optimizer):
    build = lambda: distiller(dict(p=dict(type='kddense.Mutual', peer=dict(STUDENT, _scope_='mmseg'))))  # noqa: E731
    model = build()
    assert not model.teachers
    losses = tiny.step(model, DATA)
    losses['distill.p.loss'].backward()
    assert model.student.decode_head.conv_seg.weight.grad.any()
    assert all(one.grad is None for one in model.objectives['p'].peer.parameters())
    model.zero_grad()
    before = {key: value.clone() for key, value in model.objectives['p'].peer.named_parameters()}
    plugins.train(model, DATA, **optimizer)
    after = dict(model.objectives['p'].peer.named_parameters())
    layers = [
        key for key in before if key.startswith('backbone.layer') and key.endswith(('conv1.weight', 'conv2.weight'))
    ]
    assert not any(torch.equal(before[key], after[key]) for key in [*layers, 'decode_head.conv_seg.weight'])
    plugins.assert_contracts(model, STUDENT, 'mmseg', rebuild=build)


@MODELS.register_module()
class SelfAttention(Objective):
    """SAD (Hou et al. 2019): each stage attends to what the next one does."""

    student_taps = frozenset({'backbone'})

    def forward(self, seen, taught):
        maps = [F.normalize(one.square().mean(1).flatten(1)) for one in seen.taps['backbone'][1:]]
        return dict(loss=sum((a - b.detach()).square().mean() for a, b in itertools.pairwise(maps)))


def test_a_network_learns_from_itself():
    model = distiller(dict(s=dict(type='kddense.SelfAttention')))
    found = plugins.gradients(model, DATA)
    assert 'backbone.layer2.0.conv1.weight' in found
    assert not any(key.startswith('backbone.layer4') for key in found), 'the last stage teaches alone'
    plugins.train(model, DATA)
    plugins.assert_contracts(model, STUDENT, 'mmseg')


# --- the student's own average ------------------------------------------------------------------------------------------


class MeanTeacherHook(Hook):
    """The teacher follows the student, and is saved beside it."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        with torch.no_grad():
            pairs = zip(
                runner.model.teachers['teacher'].model.parameters(), runner.model.student.parameters(), strict=True
            )
            for mean, own in pairs:
                mean.lerp_(own, 0.1)

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['mean_teacher'] = runner.model.teachers['teacher'].model.state_dict()

    def after_load_checkpoint(self, runner, checkpoint):
        if 'mean_teacher' in checkpoint:
            runner.model.teachers['teacher'].model.load_state_dict(checkpoint['mean_teacher'])


class Run:
    """What a hook needs of a runner."""

    def __init__(self, model):
        self.model = model


def test_a_hook_makes_the_teacher_an_average_of_the_student():
    soft = dict(type='kddense.FeatureObjective', tap='decode_head', loss=dict(type='kddense.HintonLoss'))
    build = lambda: distiller(dict(s=soft), teacher=tiny.teacher_of(STUDENT, 'mmseg'))  # noqa: E731
    model, hook, checkpoint = build(), MeanTeacherHook(), {}
    before = model.teachers['teacher'].model.decode_head.conv_seg.weight.clone()
    logs = []
    for _ in range(2):
        logs += plugins.train(model, DATA, steps=1)
        hook.after_train_iter(Run(model), 0)
        own = model.student.decode_head.conv_seg.weight
        before = before + 0.1 * (own.detach() - before)
    assert logs[0]['distill.s.loss'] != logs[1]['distill.s.loss']
    torch.testing.assert_close(model.teachers['teacher'].model.decode_head.conv_seg.weight, before)
    hook.before_save_checkpoint(Run(model), checkpoint)
    other = build()
    hook.after_load_checkpoint(Run(other), checkpoint)
    for one, two in zip(*(m.teachers['teacher'].model.parameters() for m in (model, other)), strict=True):
        assert torch.equal(one, two)
    plugins.assert_contracts(model, STUDENT, 'mmseg')
