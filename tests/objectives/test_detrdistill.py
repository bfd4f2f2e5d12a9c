"""DETRDistill's features where the teacher's queries look, and its queries and assignment as a prior."""

import copy

import pytest
import torch
from mmengine.logging import MessageHub
from torch import nn
from torchvision.ops import box_convert, box_iou

from kddense.losses import query_quality, target_aware_distance, target_mask
from kddense.objectives import QueryPriorObjective, TargetAwareObjective

from ..helpers import plugins, tiny, transformers
from ..helpers.transformers import FAMILY, detr, own_losses
from ..helpers.transformers import taught as distiller
from ..helpers.two_processes import in_two_processes

DATA = tiny.detection_data()
TARGET_AWARE, QUERY_PRIOR = (dict(type=f'kddense.{name}') for name in ('TargetAwareObjective', 'QueryPriorObjective'))
TERMS = ('loss_cls', 'loss_bbox', 'loss_iou')
NAMES = dict(target_aware={'loss'}, query_prior=set(TERMS))
REACHED = dict(
    target_aware={'backbone', 'neck', 'encoder'},
    query_prior={'backbone', 'neck', 'encoder', 'decoder', 'bbox_head'},
)
OBJECTIVES = dict(target_aware=TARGET_AWARE, query_prior=QUERY_PRIOR)
BOTH = pytest.mark.parametrize('part', OBJECTIVES)
EVERY = pytest.mark.parametrize('family', FAMILY)
DEEP = {'decoder.num_layers': 3, 'num_queries': 7}


@BOTH
@EVERY
def test_it_trains_every_family(family, part):
    """The loss is finite, reaches all that it is about, and every contract is kept."""
    model = distiller(OBJECTIVES[part], family)
    losses = own_losses(tiny.step(model, DATA))
    assert set(losses) == NAMES[part]
    assert all(0 < float(value) < float('inf') for value in losses.values())
    found = {name.partition('.')[0] for name in plugins.gradients(model, DATA)}
    assert REACHED[part] <= found
    assert ('decoder' in found) == (part == 'query_prior')
    plugins.train(model, DATA, lr=1e-4)
    plugins.assert_contracts(model, detr(family))


@EVERY
def test_twins_have_the_same_features(family):
    model = transformers.distiller(detr(family), detr(family), dict(x=TARGET_AWARE))
    plugins.make_twins(model)
    assert float(own_losses(plugins.losses_of(model, DATA))['loss']) < 1e-10


@EVERY
def test_to_a_twin_the_teachers_queries_are_its_own_and_so_is_what_they_lose(family):
    """So the losses of the prior are those of the task, summed over decoder layers."""
    model = transformers.distiller(detr(family), detr(family), dict(x=QUERY_PRIOR))
    plugins.make_twins(model)
    losses = plugins.losses_of(model, DATA)
    for term, value in own_losses(losses).items():
        torch.testing.assert_close(value, losses[term] + losses[f'd0.{term}'], rtol=1e-4, atol=1e-5)


def heard(model, data=DATA):
    """Return both answers of one step."""
    (objective,) = model.objectives.values()
    kept = []
    forward = objective.forward
    objective.forward = lambda seen, taught: kept.append((seen, taught)) or forward(seen, taught)
    losses = own_losses(tiny.step(model, data))
    del objective.forward
    return *kept[0], losses


@pytest.mark.parametrize('options', [{}, dict(top=2), dict(gamma=0.5)], ids=['plain', 'top', 'gamma'])
def test_a_query_counts_by_its_class_and_the_object_that_it_covers(options):
    """A loop over layers, levels and images, which knows the ground truth by itself."""
    model = distiller(dict(TARGET_AWARE, **options), 'deformable')
    seen, taught, losses = heard(model)
    (opinion,) = taught.opinions['predictions']
    sizes = torch.tensor([[64.0, 64, 64, 64], [60, 48, 60, 48]])
    wanted = 0.0
    for own, other in zip(seen.taps['encoder'], taught.taps['encoder'], strict=True):
        for layer in range(2):
            boxes = [
                box_convert(one, 'cxcywh', 'xyxy') * size
                for one, size in zip(opinion.boxes[:, layer], sizes, strict=True)
            ]
            truth = [torch.tensor(one) for one in (tiny.BOXES, tiny.BOXES[1:])]
            overlaps = torch.stack([box_iou(*pair).amax(1) for pair in zip(boxes, truth, strict=True)])
            quality = query_quality(opinion.logits[:, layer].sigmoid(), overlaps, **options)
            wanted += target_aware_distance(own, other, target_mask(other, opinion.states[:, layer], quality))
    torch.testing.assert_close(losses['loss'], wanted)


def test_without_objects_the_teachers_classes_alone_count():
    nothing = tiny.detection_data(boxes=((), ()))
    seen, taught, losses = heard(distiller(TARGET_AWARE, 'detr'), nothing)
    (opinion,) = taught.opinions['predictions']
    classes = opinion.logits.softmax(-1)[..., :-1]
    own, other = (next(iter(side.taps['encoder'])) for side in (seen, taught))
    masks = [
        target_mask(other, opinion.states[:, one], query_quality(classes[:, one], torch.ones(2, 10))) for one in (0, 1)
    ]
    torch.testing.assert_close(losses['loss'], sum(target_aware_distance(own, other, mask) for mask in masks))


@pytest.mark.parametrize('boxes', [((), ()), ((), tiny.BOXES)], ids=['none', 'in one image'])
@BOTH
def test_images_without_instances_are_served(part, boxes):
    losses = tiny.step(distiller(OBJECTIVES[part], 'dino'), tiny.detection_data(boxes=boxes))
    assert all(value.isfinite() for value in own_losses(losses).values())
    tiny.total(losses).backward()


@BOTH
def test_a_teacher_in_bf16_teaches(part):
    model = distiller(OBJECTIVES[part], 'deformable', precision='bf16')
    plugins.train(model, DATA, lr=1e-4)
    plugins.assert_contracts(model, detr('deformable'))


@BOTH
def test_a_student_in_bf16_learns_in_float32(part):
    """Under autocast as a run with AMP has it."""
    model = distiller(OBJECTIVES[part], 'deformable')
    with torch.autocast('cpu', torch.bfloat16):
        losses = own_losses(tiny.step(model, DATA))
    exact = own_losses(tiny.step(model, DATA))
    for name, value in losses.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact[name], rtol=0.3, atol=0.05)


def sampled(objective, data, rank=None):
    """Return the student's gradients from the objective alone, of a whole batch or of one of two halves."""
    student = detr('dab', 8, {'bbox_head.sync_cls_avg_factor': True})
    model = transformers.distiller(student, detr('dab', 16), dict(x=objective)).train()
    for norm in filter(lambda one: isinstance(one, nn.BatchNorm2d), model.student.modules()):
        norm.eval()
    part = data if rank is None else {key: one[rank::2] for key, one in data.items()}
    sum(own_losses(plugins.losses_of(model, part)).values()).backward()
    return {name: one.grad for name, one in model.student.named_parameters() if one.grad is not None}


@BOTH
def test_two_processes_with_half_the_batch_are_one_with_the_whole(part, tmp_path, monkeypatch):
    monkeypatch.setitem(MessageHub.get_current_instance().runtime_info, 'seed', 5)
    data = tiny.detection_data(sizes=((64, 64),) * 4, boxes=(tiny.BOXES, tiny.BOXES[:1], tiny.BOXES, tiny.BOXES[1:]))
    whole = sampled(OBJECTIVES[part], data)
    first, second = in_two_processes(lambda rank: sampled(OBJECTIVES[part], data, rank), tmp_path)
    assert whole.keys() == first.keys() == second.keys()
    for name, value in whole.items():
        torch.testing.assert_close((first[name] + second[name]) / 2, value, rtol=1e-3, atol=1e-4, msg=name)


def test_the_teacher_assigns_and_not_the_student():
    found = []
    for by in ('teacher', 'student'):
        model = distiller(dict(QUERY_PRIOR, assigned_by=by))
        random = torch.Generator().manual_seed(3)
        for weight in model.student.bbox_head.parameters():  # so that its boxes lie elsewhere
            weight.data.add_(torch.randn(weight.shape, generator=random))
        seen, taught, losses = heard(model)
        (own,), (other,) = seen.opinions['queries'], taught.opinions['queries']
        said = own.judge(other.queries)
        head, samples = model.student.bbox_head, seen.batch.data_samples
        truth = [one.gt_instances for one in samples], [one.metainfo for one in samples]
        chosen = other if by == 'teacher' else said
        wanted = dict.fromkeys(TERMS, 0.0)
        for layer in range(2):
            targets = head.get_targets(list(chosen.logits[:, layer]), list(chosen.boxes[:, layer]), *truth)
            labels, _, boxes, weights, count, _ = targets
            labels, boxes, weights = (torch.stack(one) for one in (labels, boxes, weights))
            classes = head.loss_cls(said.logits[:, layer].flatten(0, 1), labels.flatten(), avg_factor=max(count, 1))
            distance = 5 * (weights * (said.boxes[:, layer] - boxes).abs()).sum() / count
            for term, value in (('loss_cls', classes), ('loss_bbox', distance)):
                wanted[term] = wanted[term] + value
        for term in ('loss_cls', 'loss_bbox'):
            torch.testing.assert_close(losses[term], wanted[term], rtol=1e-4, atol=1e-5)
        found.append(losses['loss_bbox'])
    assert not torch.isclose(*found)


def test_a_copy_judges_by_its_own_decoder():
    """As EMA makes one."""
    model = distiller(QUERY_PRIOR)
    copied = copy.deepcopy(model)
    assert copied.objectives['x'].student.model is copied.student
    assert model.objectives['x'].student.model is model.student


def test_decoders_of_different_depth():
    message = "objectives.x: decoder.num_layers is 2 in the student and 3 in the teacher, .*: set layers='last'"
    with pytest.raises(ValueError, match=message):
        distiller(QUERY_PRIOR, 'dab', None, DEEP)
    for options in (dict(layers='last'), dict(assigned_by='student')):
        plugins.train(distiller(dict(QUERY_PRIOR, **options), 'dab', None, DEEP), DATA, lr=1e-4)
    plugins.train(distiller(TARGET_AWARE, 'dab', None, DEEP), DATA, lr=1e-4)


def test_features_of_other_widths_are_connected_and_the_teachers_must_be_its_queries():
    student = detr('deformable', 8, {'neck.out_channels': 16})
    model = transformers.distiller(student, detr('dino', 16), dict(x=TARGET_AWARE))
    assert [type(layer).__name__ for layer in model.objectives['x'].connectors] == ['ConvConnector'] * 3
    plugins.train(model, DATA, lr=1e-4)
    with pytest.raises(
        ValueError, match=r"tap 'backbone' has maps of 128 channels in the teacher, .* queries of 16: tap"
    ):
        distiller(dict(TARGET_AWARE, tap='backbone'), 'dab')


def test_the_recipe_serves_two_families_without_the_prior():
    recipe = ['detrdistill', dict(query_prior=dict(weight=0))]
    model = transformers.distiller(detr('deformable'), detr('dino', 16), recipe)
    assert set(model.objectives) == {'detrdistill', 'target_aware'}
    plugins.train(model, DATA, lr=1e-4)


def test_two_stages_judge_no_queries_of_one():
    with pytest.raises(ValueError, match='objectives.x: .*as_two_stage: False in the student, True in the teacher'):
        distiller(QUERY_PRIOR, 'deformable', 'deformable two-stage')
    with pytest.raises(ValueError, match='objectives.x: student .* has no decoder of queries'):
        tiny.distiller(tiny.faster_rcnn(), detr('dab'), dict(x=dict(TARGET_AWARE, tap='neck')))


@pytest.mark.parametrize(
    'build, message',
    [
        (lambda: TargetAwareObjective(top=0), 'top must be at least 1, got 0'),
        (lambda: TargetAwareObjective(gamma=1.5), 'gamma must be None or in 0..1, got 1.5'),
        (lambda: TargetAwareObjective(connect='teacher'), "connect is always 'student'"),
        (lambda: QueryPriorObjective(assigned_by='nobody'), "assigned_by must be one of 'teacher', 'student'"),
        (lambda: QueryPriorObjective(layers='first'), "layers must be one of 'each', 'last', got 'first'"),
        (lambda: QueryPriorObjective(cls_weight=0, bbox_weight=0, iou_weight=0), 'are all 0: leave this objective out'),
    ],
)
def test_bad_options_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
