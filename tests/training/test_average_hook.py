"""Mean teacher: it begins as the student, follows it, is saved and resumed; peers are written as plain checkpoints."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from kddense import AverageTeacherHook, PeerHook
from kddense.compat import load_checkpoint

from ..helpers import plugins, tiny

STUDENT = tiny.segmentor('pspnet_r50-d8')
DATA = tiny.segmentation_data()
SOFT = dict(s=dict(type='kddense.FeatureObjective', tap='decode_head', loss=dict(type='kddense.HintonLoss')))


def average(config=STUDENT, **options):
    return dict(type='kddense.AverageTeacher', config=dict(model=config, default_scope='mmseg'), **options)


def distiller(**options):
    teacher = average(**{'momentum': 0.25, **options})
    model = tiny.build(dict(type='kddense.Distiller', student=STUDENT, teacher=teacher, objectives=SOFT), scope='mmseg')
    tiny.shake(model.student)
    return model


def run_of(model, resumes=False):
    return SimpleNamespace(model=model, iter=0, _resume=resumes)


def test_it_begins_as_the_student_and_follows_it():
    model, hook = distiller(), AverageTeacherHook()
    run, teacher = run_of(model), model.teachers['teacher'].model
    hook.before_train(run)
    assert all(torch.equal(one, model.student.state_dict()[key]) for key, one in teacher.state_dict().items())
    assert not any(one.requires_grad for one in teacher.parameters())
    key = 'decode_head.bottleneck.bn.running_mean'
    expected = {name: model.student.state_dict()[name].clone() for name in ('decode_head.conv_seg.weight', key)}
    shares = [1 / 2, 1 / 3, 1 / 4, 0.25, 0.25]  # it forgets faster at first
    for run.iter, share in enumerate(shares):
        plugins.train(model, DATA, steps=1)
        hook.after_train_iter(run, 0)
        for name in expected:
            expected[name] = expected[name] + share * (model.student.state_dict()[name] - expected[name])
    for name, one in expected.items():
        torch.testing.assert_close(teacher.state_dict()[name], one)
    counted = 'decode_head.bottleneck.bn.num_batches_tracked'
    assert torch.equal(teacher.state_dict()[counted], model.student.state_dict()[counted])
    plugins.assert_contracts(model, STUDENT, 'mmseg')


def test_it_is_saved_and_resumed():
    model, hook, checkpoint = distiller(), AverageTeacherHook(), {}
    hook.before_train(run_of(model))
    plugins.train(model, DATA, steps=1)
    hook.after_train_iter(run_of(model), 0)
    hook.before_save_checkpoint(run_of(model), checkpoint)
    other, again = distiller(), AverageTeacherHook()
    again.after_load_checkpoint(run_of(other, resumes=True), checkpoint)
    again.before_train(run_of(other, resumes=True))
    pairs = zip(*(one.teachers['teacher'].model.state_dict().values() for one in (model, other)), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    lacking = AverageTeacherHook()
    lacking.after_load_checkpoint(run_of(other, resumes=True), {})
    with pytest.raises(ValueError, match='holds no average for the teacher teacher'):
        lacking.before_train(run_of(other, resumes=True))


def test_weights_to_begin_with_are_no_state_to_resume():
    hook, model = AverageTeacherHook(), distiller()
    hook.after_load_checkpoint(run_of(model), dict(average_teachers=dict(teacher={})))
    hook.before_train(run_of(model))
    assert torch.equal(
        model.teachers['teacher'].model.decode_head.conv_seg.bias, model.student.decode_head.conv_seg.bias
    )


def test_an_average_that_nobody_moves_is_refused_at_the_first_step():
    model = distiller()
    with pytest.raises(ValueError, match='^teacher is an average that nobody moves: add default_hooks = dict'):
        plugins.train(model, DATA, steps=1)
    AverageTeacherHook().before_train(run_of(model))
    plugins.train(model, DATA, steps=1)


def test_an_average_is_no_member_of_an_ensemble():
    members = [average(), dict(config=dict(model=STUDENT, default_scope='mmseg'), checkpoint=None)]
    with pytest.raises(
        ValueError, match=r'teacher.members\[0\] follows the student, and is moved as a teacher of its own'
    ):
        tiny.build(
            dict(
                type='kddense.Distiller',
                student=STUDENT,
                teacher=dict(type='kddense.EnsembleTeacher', members=members),
                objectives=SOFT,
            ),
            scope='mmseg',
        )


def test_bad_averages_are_one_sentence():
    with pytest.raises(ValueError, match='teacher.momentum must be above 0 and at most 1, got 0'):
        distiller(momentum=0)
    model = distiller(config=tiny.segmentor('pspnet_r50-d8', width=12))
    with pytest.raises(ValueError, match='teacher.config is of another model than the student'):
        AverageTeacherHook().before_train(run_of(model))
    frozen = tiny.distiller(STUDENT, STUDENT, SOFT, 'mmseg')
    with pytest.raises(ValueError, match='finds no teacher of the type kddense.AverageTeacher'):
        AverageTeacherHook().before_train(run_of(frozen))


def test_a_peer_is_written_as_a_plain_checkpoint(tmp_path):
    wide = tiny.segmentor('pspnet_r50-d8', width=12)
    mutual = dict(type='kddense.MutualObjective', peer=wide, compare=dict(type='kddense.PixelWiseObjective'))
    model = tiny.build(dict(type='kddense.Distiller', student=STUDENT, objectives=dict(m=mutual)), scope='mmseg')
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=('a', 'b'), other=1)))
    run = SimpleNamespace(model=model, iter=3, epoch=0, seed=1, work_dir=tmp_path, train_dataloader=loader)
    PeerHook().after_train(run)
    saved = load_checkpoint(tmp_path / 'peer_m.pth')
    plain = tiny.build(wide, scope='mmseg')
    plain.load_state_dict(saved['state_dict'], strict=True)
    assert torch.equal(plain.decode_head.conv_seg.weight, model.objectives['m'].peer.model.decode_head.conv_seg.weight)
    assert saved['meta']['dataset_meta'] == dict(classes=('a', 'b'))
    run.model = tiny.distiller(STUDENT, STUDENT, SOFT, 'mmseg')
    with pytest.raises(ValueError, match='finds no kddense.MutualObjective'):
        PeerHook().after_train(run)
