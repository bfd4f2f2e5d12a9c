"""KD-DETR and DETRDistill on detectors of the whole DETR family: who is compared with whom, and what is refused."""

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from torch import nn

from kddense.exchange import QueryOpinion
from kddense.objectives import DETRDistillObjective, KDDETRObjective

from ..helpers import plugins, tiny, transformers
from ..helpers.transformers import FAMILY, detr, own_losses
from ..helpers.transformers import taught as distiller
from ..helpers.two_processes import in_two_processes

DATA = tiny.detection_data()
KD_DETR, DETRDISTILL = (dict(type=f'kddense.{name}') for name in ('KDDETRObjective', 'DETRDistillObjective'))
NAMES = ('loss_cls', 'loss_bbox', 'loss_iou')
BOTH = pytest.mark.parametrize('objective', [KD_DETR, DETRDISTILL], ids=['kd_detr', 'detrdistill'])


@BOTH
@pytest.mark.parametrize('family', FAMILY)
def test_it_trains_every_family(family, objective):
    """The loss is finite, reaches backbone, decoder and heads, and every contract is kept."""
    model = distiller(objective, family)
    assert set(own_losses(tiny.step(model, DATA))) == set(NAMES)
    found = plugins.gradients(model, DATA)
    parts = {name.partition('.')[0] for name in found}
    assert {'backbone', 'neck', 'encoder', 'decoder', 'bbox_head'} <= parts
    plugins.train(model, DATA, lr=1e-4)
    plugins.assert_contracts(model, detr(family))


@BOTH
@pytest.mark.parametrize('family', FAMILY)
def test_twins_have_nothing_to_learn(family, objective):
    """From decoder layers of one and the same, the last of which KD-DETR compares all others with."""
    one_layer = {'decoder.num_layers': 1}
    model = transformers.distiller(detr(family, 8, one_layer), detr(family, 8, one_layer), dict(x=objective))
    plugins.make_twins(model)
    losses = own_losses(plugins.losses_of(model, DATA))
    assert all(abs(float(value)) < 1e-5 for value in losses.values()), losses


@BOTH
def test_a_teacher_in_bf16_teaches(objective):
    model = distiller(objective, 'deformable', precision='bf16')
    plugins.train(model, DATA, lr=1e-4)
    plugins.assert_contracts(model, detr('deformable'))


@pytest.mark.parametrize('boxes', [((), ()), ((), tiny.BOXES)], ids=['none', 'in one image'])
@BOTH
def test_images_without_instances_are_served(objective, boxes):
    model = distiller(objective, 'dino')
    losses = tiny.step(model, tiny.detection_data(boxes=boxes))
    assert all(value.isfinite() for value in own_losses(losses).values())
    tiny.total(losses).backward()


@BOTH
def test_a_student_in_bf16_learns_in_float32(objective):
    """Under autocast as a run with AMP has it."""
    model = distiller(objective, 'deformable')
    with torch.autocast('cpu', torch.bfloat16):
        losses = own_losses(tiny.step(model, DATA))
    exact = own_losses(tiny.step(model, DATA))
    assert all(value.dtype == torch.float32 for value in losses.values())
    for name, value in losses.items():
        torch.testing.assert_close(value, exact[name], rtol=0.3, atol=0.05)


def sampled(objective, data, rank=None):
    """Return the gradients of a student's decoder from the objective alone, of a whole batch or of one of two halves."""
    model = distiller(objective, 'dab').train()
    for norm in filter(lambda one: isinstance(one, nn.BatchNorm2d), model.student.modules()):
        norm.eval()
    plugins.at_iteration(4)
    part = data if rank is None else {key: one[rank::2] for key, one in data.items()}
    losses = own_losses(plugins.losses_of(model, part))
    sum(losses.values()).backward()
    return {name: one.grad for name, one in model.student.named_parameters() if one.grad is not None}


@BOTH
def test_two_processes_with_half_the_batch_are_one_with_the_whole(objective, tmp_path, monkeypatch):
    monkeypatch.setitem(MessageHub.get_current_instance().runtime_info, 'seed', 5)
    data = tiny.detection_data(sizes=((64, 64),) * 4, boxes=(tiny.BOXES,) * 4)
    whole = sampled(objective, data)
    first, second = in_two_processes(lambda rank: sampled(objective, data, rank), tmp_path)
    assert whole.keys() == first.keys() == second.keys()
    for name, value in whole.items():
        torch.testing.assert_close((first[name] + second[name]) / 2, value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize(
    'options, teachers, students', [({}, 2, 3), (dict(general=0), 1, 2), (dict(specific=False), 2, 2)]
)
def test_how_often_decoders_run(options, teachers, students):
    """The teacher's own run is what says anything of its own queries: it decodes twice at most."""
    model = distiller(dict(KD_DETR, **options))
    counts = dict(student=0, teacher=0)
    for name, one in (('student', model.student), ('teacher', model.teachers['teacher'].model)):
        one.decoder.register_forward_hook(lambda *_, name=name: counts.update({name: counts[name] + 1}))
    tiny.step(model, DATA)
    assert counts == dict(student=students, teacher=teachers)


def judged(model, monkeypatch):
    """Return the queries that the teacher judged besides its own in one step."""
    asked = []
    judge = QueryOpinion.judge
    monkeypatch.setattr(QueryOpinion, 'judge', lambda self, queries: asked.append(queries) or judge(self, queries))
    tiny.step(model, DATA)
    return asked


@pytest.mark.parametrize('family', ['detr', 'dab', 'deformable', 'deformable two-stage', 'dino'])
@pytest.mark.parametrize('count', [None, 4, 23])
def test_random_queries_look_at_random_places(family, count, monkeypatch):
    specific, general, _ = judged(distiller(dict(KD_DETR, general=count), family), monkeypatch)
    assert specific.count == 10
    assert general.count == (count or 10)
    where = 'query_pos' if family in ('detr', 'dab') else 'reference_points'
    places, before = getattr(general, where), getattr(specific, where)
    assert places.shape[2] == before.shape[2]
    assert torch.equal(places[0], places[1]), 'all images have the same'
    assert not torch.isclose(places[:, :4], before[:, :4]).any()
    assert torch.equal(general.query[:, :4], specific.query[:, :4])
    if where == 'reference_points':
        assert ((places > 0) & (places < 1)).all()


def test_random_places_change_by_the_iteration_alone(monkeypatch):
    monkeypatch.setitem(MessageHub.get_current_instance().runtime_info, 'seed', 5)
    model, found = distiller(KD_DETR), []
    for iteration in (3, 3, 4):
        plugins.at_iteration(iteration)
        found.append(judged(model, monkeypatch)[1].query_pos)
        monkeypatch.undo()
        monkeypatch.setitem(MessageHub.get_current_instance().runtime_info, 'seed', 5)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_each_layer_of_the_student_learns_from_the_teachers_last():
    """Which of two models has how many is free; with a layer more, the losses are sums of more."""
    deep = {'decoder.num_layers': 3, 'num_queries': 7}
    model = distiller(KD_DETR, 'dab', None, deep)
    plugins.train(model, DATA, lr=1e-4)
    (objective,) = model.objectives.values()
    own, other = heard(model)
    (first, second), last = (own.logits[:, layer] for layer in (0, 1)), other.logits[:, -1]
    found = list(objective._distances(own, own))
    assert len(found) == 2
    assert last.shape == (2, 7, 3)
    assert float(found[1].classes) == pytest.approx(0, abs=1e-6)
    assert float(found[0].classes) > 0 or torch.equal(first, second)


def heard(model):
    """Return what both said of their own queries in one step."""
    (objective,) = model.objectives.values()
    kept = []
    forward = objective.forward
    objective.forward = lambda seen, taught: kept.append(objective.opinions(seen, taught)) or forward(seen, taught)
    tiny.step(model, DATA)
    del objective.forward
    return kept[0]


def test_layers_are_compared_one_by_one_or_the_build_stops():
    deep = {'decoder.num_layers': 3, 'num_queries': 7}
    message = "objectives.x: decoder.num_layers is 2 in the student and 3 in the teacher, .*: set layers='last'"
    with pytest.raises(ValueError, match=message):
        distiller(DETRDISTILL, 'dab', None, deep)
    plugins.train(distiller(dict(DETRDISTILL, layers='last'), 'dab', None, deep), DATA, lr=1e-4)


def test_matched_predictions_cross_families():
    model = distiller(DETRDISTILL, 'deformable', 'dino')
    assert 'backbone.layer2.0.conv1.weight' in plugins.gradients(model, DATA)


def test_predictions_of_which_the_teacher_is_not_sure_do_not_count():
    model = distiller(dict(DETRDISTILL, min_score=0.999))
    losses = tiny.step(model, DATA)
    assert all(float(value) == 0 for value in own_losses(losses).values())
    tiny.total(losses).backward()


def test_queries_of_two_forms_are_refused():
    with pytest.raises(ValueError, match='objectives.x: .*as_two_stage: False in the student, True in the teacher'):
        distiller(KD_DETR, 'deformable', 'deformable two-stage')
    with pytest.raises(ValueError, match='objectives.x: teacher .* has no decoder of queries'):
        transformers.distiller(detr('dab'), tiny.faster_rcnn(), dict(x=KD_DETR))


@pytest.mark.parametrize('term', range(3))
def test_a_term_of_weight_0_is_no_loss(term):
    weights = dict(
        zip(('cls_weight', 'bbox_weight', 'iou_weight'), [float(index != term) for index in range(3)], strict=True)
    )
    model = distiller(dict(KD_DETR, **weights))
    assert set(own_losses(tiny.step(model, DATA))) == set(NAMES) - {NAMES[term]}
    assert model.objectives['x'].compares_classes == (term != 0)


def test_weights_are_factors():
    found = [
        own_losses(tiny.step(distiller(dict(DETRDISTILL, **weights)), DATA))
        for weights in ({}, dict(cls_weight=2.0, bbox_weight=10.0, iou_weight=4.0))
    ]
    for name in NAMES:
        torch.testing.assert_close(found[1][name], 2 * found[0][name], rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    'build, message',
    [
        (lambda: KDDETRObjective(specific=False, general=0), 'general is 0 and specific is False: no query is left'),
        (lambda: KDDETRObjective(general=-1), 'general must be at least 0, got -1'),
        (lambda: KDDETRObjective(cls_weight=0, bbox_weight=0, iou_weight=0), 'are all 0: leave this objective out'),
        (lambda: KDDETRObjective(bbox_weight=-1), 'bbox_weight must be at least 0, got -1'),
        (lambda: DETRDistillObjective(min_score=1.0), 'min_score must be at least 0 and below 1, got 1.0'),
        (lambda: DETRDistillObjective(layers='first'), "layers must be one of 'each', 'last', got 'first'"),
    ],
)
def test_bad_options_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_recipes_have_the_defaults():
    parts = {name: dict(type=f'kddense.{name}') for name in ('TargetAwareObjective', 'QueryPriorObjective')}
    wanted = {
        'kd_detr': dict(kd_detr=KD_DETR),
        'detrdistill': dict(
            detrdistill=DETRDISTILL,
            target_aware=parts['TargetAwareObjective'],
            query_prior=parts['QueryPriorObjective'],
        ),
    }
    for recipe, objectives in wanted.items():
        assert Config.fromfile(f'configs/_base_/recipes/{recipe}.py').objectives.to_dict() == objectives
