"""Who is asked what, when; and what becomes of the answers."""

import pytest
import torch
from mmengine.logging import MessageHub

from kddense import Objective
from kddense.distiller.plan import make_plan
from kddense.registry import MODELS

from ..helpers import tiny


@MODELS.register_module()
class ToySelf(Objective):
    """Asks no teacher."""

    student_taps = frozenset({'backbone'})

    def forward(self, seen, taught):
        assert not taught.taps
        assert seen.batch.data_samples[0].gt_sem_seg is not None
        return {'loss': seen.taps['backbone'][-1].square().mean(), 'loss_task': 0 * seen.losses['decode.loss_ce']}


@MODELS.register_module()
class ToyBoth(Objective):
    """Learns from several teachers at once."""

    takes_several = True
    student_taps = teacher_taps = frozenset({'decode_head'})

    def forward(self, seen, taught):
        mean = sum(one.taps['decode_head'] for one in taught.values()) / len(taught)
        return {'loss': (seen.taps['decode_head'] - mean).square().mean()}


def at(iteration, end=10):
    hub = MessageHub.get_current_instance()
    hub.update_info('iter', iteration)
    hub.update_info('max_iters', end)


def segmentor(**options):
    return tiny.segmentor('pspnet_r50-d8', **options)


def build(objectives, teacher=None):
    config = dict(type='kddense.Distiller', student=segmentor(), teacher=teacher, objectives=objectives)
    return tiny.build(config, scope='mmseg')


def two_teachers():
    return dict(a=tiny.teacher_of(segmentor(width=12), 'mmseg'), b=tiny.teacher_of(segmentor(width=16), 'mmseg'))


def test_no_teacher_is_needed_where_none_is_asked():
    losses = tiny.step(build(dict(own=dict(type='kddense.ToySelf'))), tiny.segmentation_data())
    assert losses['distill.own.loss'] > 0


def test_several_teachers_come_by_name():
    model = build(dict(it=dict(type='kddense.ToyBoth')), two_teachers())
    assert model.objectives['it'].taught_by == ('a', 'b')
    tiny.total(tiny.step(model, tiny.segmentation_data())).backward()


def test_who_needs_no_sample_is_asked_early():
    taps = dict(type='kddense.FeatureObjective', tap='neck')
    teachers = {name: tiny.teacher_of(tiny.faster_rcnn()) for name in ('maps', 'boxes')}
    objectives = dict(hint=dict(taps, teacher='maps'), roi=dict(type='kddense.ChenRoIObjective', teacher='boxes'))
    config = dict(type='kddense.Distiller', student=tiny.faster_rcnn(), teacher=teachers, objectives=objectives)
    model = tiny.build(config)
    plan = make_plan(model.named_objectives, model.teachers, None, None)
    assert (list(plan.early), list(plan.late)) == (['maps'], ['boxes'])
    assert plan.taps == {'neck'}
    assert plan.kinds == {'roi'}


def test_a_teacher_whose_objectives_rest_is_not_asked(monkeypatch):
    hint = dict(type='kddense.FeatureObjective', tap='backbone', weight=dict(value=1.0, stop=2))
    model = build(dict(hint=hint), tiny.teacher_of(segmentor(width=16), 'mmseg'))
    asked = []
    answer = model.teachers['teacher'].answer
    monkeypatch.setattr(model.teachers['teacher'], 'answer', lambda *one: asked.append(one) or answer(*one))
    for iteration in range(4):
        at(iteration)
        tiny.step(model, tiny.segmentation_data())
    assert len(asked) == 2


@pytest.mark.parametrize('stages', ['one', 'cascade'])
def test_each_loss_has_one_key_for_the_whole_run(stages):
    student = tiny.faster_rcnn() if stages == 'one' else tiny.cascade_rcnn()
    roi = dict(type='kddense.ChenRoIObjective', weight=dict(value=1.0, start=1, stop=2))
    model = tiny.distiller(student, student, dict(roi=roi))
    keys = []
    for iteration in range(3):
        at(iteration)
        losses = tiny.step(model, tiny.detection_data())
        keys.append({key for key in losses if key.startswith('distill.')})
    assert keys[0] == keys[1] == keys[2]
    assert len(keys[0]) == (2 if stages == 'one' else 6)


def test_task_scales_touch_losses_only(monkeypatch):
    model = build(dict(own=dict(type='kddense.ToySelf')))
    monkeypatch.setattr(ToySelf, 'task_scales', lambda self: {r'.*': 0.0})
    losses = tiny.step(model, tiny.segmentation_data())
    assert losses['decode.loss_ce'] == 0
    assert losses['decode.acc_seg'] > 0


def test_an_idle_objective_reaches_its_parameters_with_zeros():
    hint = dict(type='kddense.FeatureObjective', tap='backbone', levels=[2], weight=dict(value=1.0, start=5))
    model = build(dict(hint=hint), tiny.teacher_of(segmentor(width=16), 'mmseg'))
    at(0)
    losses = tiny.step(model, tiny.segmentation_data())
    assert losses['distill.hint.loss'] == 0
    losses['distill.hint.loss'].backward()
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in model.objectives.parameters())


def test_a_pattern_that_is_none_is_told_as_the_model_is_built():
    with pytest.raises(ValueError, match=r"^task_weights: '\*.loss_ce' is no regular expression: nothing to repeat"):
        tiny.distiller(tiny.faster_rcnn(), tiny.faster_rcnn(), {}, task_weights={'*.loss_ce': 0.5})
    gradient = dict(type='kddense.GradientATObjective', tap='neck', losses='*rpn')
    with pytest.raises(ValueError, match=r"objectives.at.losses: '\*rpn' is no regular expression"):
        tiny.distiller(tiny.faster_rcnn(), tiny.faster_rcnn(), dict(at=gradient))
