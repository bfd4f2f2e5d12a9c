"""Detectors that decode queries: what their heads say of their own queries, and of those of another model."""

import pytest
import torch

from kddense import Objective
from kddense.exchange import ViewError
from kddense.registry import MODELS
from kddense.teachers.cache import Form, keep
from kddense.views import DETRView

from ..helpers import plugins, tiny, transformers
from ..helpers.transformers import FAMILY, detr

DATA = tiny.detection_data()
LAYERS, QUERIES, CLASSES = 2, 10, 3
KINDS = ('queries', 'predictions')


@MODELS.register_module()
class OverhearsQueries(Objective):
    """Keeps both answers."""

    def __init__(self, kinds=KINDS, tap=None, **kwargs):
        super().__init__(**kwargs)
        self.kinds = frozenset() if tap else frozenset(kinds)
        self.student_taps = self.teacher_taps = frozenset([tap] if tap else [])

    def forward(self, seen, taught):
        self.heard = seen, taught
        return dict(loss=seen.batch.inputs.sum() * 0)


def distiller(student, teacher=None, options=None, **objective):
    teacher = tiny.teacher_of(student if teacher is None else teacher, **(options or {}))
    return transformers.distiller(student, teacher, dict(x=dict(type='kddense.OverhearsQueries', **objective)))


def heard(model, data=DATA):
    """Return what both said of their own queries in one step."""
    plugins.losses_of(model, data)
    seen, taught = model.objectives['x'].heard
    (own,), (other,) = seen.opinions['queries'], taught.opinions['queries']
    return own, other


def assert_same(one, other, close=1e-5):
    torch.testing.assert_close(one.logits, other.logits, rtol=0, atol=close)
    torch.testing.assert_close(one.boxes, other.boxes, rtol=0, atol=close)


@pytest.mark.parametrize('family', FAMILY)
def test_twins_say_the_same_of_their_own_queries_and_of_each_others(family):
    model = distiller(detr(family))
    plugins.make_twins(model)
    own, other = heard(model)
    assert isinstance(model.student_view, DETRView)
    assert own.sigmoid == (family != 'detr')
    assert own.logits.shape == (2, LAYERS, QUERIES, CLASSES + (not own.sigmoid))
    assert own.boxes.shape == (2, LAYERS, QUERIES, 4)
    assert ((own.scores >= 0) & (own.scores <= 1)).all()
    assert_same(own, other)
    again = own.judge(other.queries)
    assert_same(again, other)
    assert again.logits.requires_grad
    assert not other.judge(own.queries).logits.requires_grad


def test_queries_out_of_many_positions_are_looked_for_on_no_larger_image_than_that_takes():
    view = distiller(detr('dino', 8, {'num_queries': 900})).student_view
    tried = []
    view.model.backbone.register_forward_pre_hook(lambda module, images: tried.append(images[0].shape[-1]))
    (said,) = view.probe_opinions('predictions')
    assert said.logits.shape[2] == 900
    assert tried == [64, 256]


@pytest.mark.parametrize('family', FAMILY)
def test_the_last_layer_is_what_the_model_predicts(family):
    model = distiller(detr(family, 8, {'test_cfg.max_per_img': QUERIES * CLASSES if family != 'detr' else QUERIES}))
    _, other = heard(model)
    teacher = model.teachers['teacher'].model
    data = teacher.data_preprocessor(tiny.detection_data(), False)
    with torch.no_grad():
        predicted = teacher.predict(batch_inputs=data['inputs'], batch_data_samples=data['data_samples'])
    for row, sample in enumerate(predicted):
        classes = other.logits[row, -1]
        scores = classes.sigmoid() if other.sigmoid else classes.softmax(-1)[:, :-1].amax(-1)
        found = sample.pred_instances.scores.sort().values
        torch.testing.assert_close(scores.flatten().sort().values, found, rtol=0, atol=1e-5)


@pytest.mark.parametrize('family', FAMILY)
def test_other_queries_are_judged_otherwise_and_each_image_on_its_own(family):
    own, other = heard(distiller(detr(family), detr(family, 16)))
    turned = type(other.queries)(
        **{name: None if one is None else one.flip(1) for name, one in vars(own.queries).items()}
    )
    found = other.judge(turned)
    assert_same(found, other.judge(own.queries), close=10)
    torch.testing.assert_close(found.logits.flip(2), other.judge(own.queries).logits, rtol=0, atol=1e-4)
    assert (other.judge(own.queries).logits - other.logits).abs().max() > 1e-3
    assert own.judge(other.queries).queries is other.queries


def test_denoising_queries_of_dino_are_no_queries_of_its_own():
    own, _ = heard(distiller(detr('dino')))
    assert own.queries.count == own.logits.shape[2] == QUERIES


def test_the_student_draws_for_other_queries_beside_its_own_stream():
    dropout = {f'decoder.layer_cfg.{part}.dropout': 0.5 for part in ('self_attn_cfg', 'cross_attn_cfg')}
    own, other = heard(distiller(detr('deformable', 8, dropout)))
    before = torch.get_rng_state()
    assert not torch.equal(own.judge(other.queries).logits, own.logits)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(other.judge(own.queries).logits, other.judge(own.queries).logits)


def test_the_teacher_masks_the_padding_of_its_own_images():
    """The sizes that it is told are those of the images as it sees them, without labels."""
    model = distiller(detr('deformable'), detr('deformable', 16, {'data_preprocessor.pad_size_divisor': 128}))
    told = []
    teacher = model.teachers['teacher'].model
    teacher.encoder.register_forward_pre_hook(lambda module, args, kwargs: told.append(kwargs), with_kwargs=True)
    teacher.backbone.register_forward_pre_hook(lambda module, args: told.append(args[0].shape))
    tiny.step(model, DATA)
    shape, given = told
    assert shape[-2:] == (128, 128)
    finest = given['key_padding_mask'][:, : 16 * 16].unflatten(1, (16, 16))  # true where it is padding
    for mask, (height, width) in zip(finest, ((64, 64), (48, 60)), strict=True):
        inside = torch.zeros(16, 16, dtype=torch.bool)
        inside[: height // 8, : -(-width // 8)] = True
        assert torch.equal(~mask, inside)


@pytest.mark.parametrize('family', ['detr', 'deformable'])
def test_what_a_teacher_says_does_not_depend_on_its_padding(family):
    """Boxes are relative to the image without its padding."""
    narrow, wide = (
        heard(distiller(detr(family), detr(family, 8, {'data_preprocessor.pad_size_divisor': divisor})))[1]
        for divisor in (32, 128)
    )
    assert (narrow.boxes - wide.boxes).abs().max() < 0.1


@pytest.mark.parametrize('family', ['dab', 'deformable', 'dino'])
def test_a_teacher_in_bf16_says_about_the_same(family):
    exact, low = (heard(distiller(detr(family), options=dict(precision=one)))[1] for one in ('fp32', 'bf16'))
    assert low.logits.dtype == low.boxes.dtype == torch.float32
    assert_same(low.judge(low.queries), low, close=0.05)  # points are not rounded then
    same = exact.judge(low.queries)  # of two stages, those that the first chose may be others
    assert 0 < (same.boxes - low.boxes).abs().mean() < 0.1


@pytest.mark.parametrize('family', ['detr', 'deformable'])
def test_classes_are_chosen_and_ordered(family):
    whole = distiller(detr(family))
    chosen = distiller(detr(family, 8, {'bbox_head.num_classes': 2}), detr(family), dict(class_map=[2, 0]))
    weights = whole.teachers['teacher'].model.state_dict()
    chosen.teachers['teacher'].model.load_state_dict(weights)
    data = tiny.detection_data(boxes=(tiny.BOXES[:2], tiny.BOXES[:1]))  # of the first two classes
    plain, mapped = (heard(model, data)[1] for model in (whole, chosen))
    kept = [2, 0] if plain.sigmoid else [2, 0, 3]
    assert torch.equal(mapped.logits, plain.logits[..., kept])
    assert torch.equal(mapped.judge(mapped.queries).logits, mapped.logits)


def test_images_without_instances_are_served():
    data = tiny.detection_data(boxes=((), ()))
    for family in ('dab', 'dino'):
        own, other = heard(distiller(detr(family)), data)
        assert own.logits.isfinite().all()
        assert other.logits.shape == own.logits.shape


BOTH = dict(kinds=['predictions'])
DIFFERENT = {
    'classes': (
        BOTH,
        detr('dab'),
        detr('dab', 8, {'bbox_head.num_classes': 5}),
        'bbox_head.num_classes: 3 in the student, 5',
    ),
    'sigmoid': (BOTH, detr('dab'), detr('detr'), 'bbox_head.loss_cls.use_sigmoid: True in the student, False'),
    'family': (
        {},
        detr('conditional'),
        detr('dab'),
        'the decoder: as of ConditionalDETR in the student, as of DABDETR',
    ),
    'stages': ({}, detr('deformable'), detr('deformable two-stage'), 'as_two_stage: False in the student, True'),
    'points': (
        {},
        detr('dab'),
        tiny.edit(detr('dab'), {'decoder.query_dim': 2, 'decoder.with_modulated_hw_attn': False}),
        'decoder.query_dim: 4 in the student, 2',
    ),
}


@pytest.mark.parametrize('case', DIFFERENT)
def test_what_differs_is_named(case):
    objective, student, teacher, message = DIFFERENT[case]
    with pytest.raises(ValueError, match=f'objectives.x: .*{message} in the teacher'):
        distiller(student, teacher, **objective)


def test_predictions_need_no_queries_in_common():
    model = distiller(detr('deformable'), detr('dino', 16, {'num_queries': 7, 'decoder.num_layers': 3}), **BOTH)
    tiny.step(model, DATA)
    _, taught = model.objectives['x'].heard
    assert taught.opinions['predictions'][0].boxes.shape == (2, 3, 7, 4)


@pytest.mark.parametrize('family, levels', [('detr', [2]), ('deformable', [8, 4, 2])])
def test_what_an_encoder_says_are_maps(family, levels):
    """Of the student and of a teacher that pads more; a step reaches the encoder."""
    hint = dict(type='kddense.FeatureObjective', tap='encoder')
    teacher = detr(family, 16, {'data_preprocessor.pad_size_divisor': 96})
    model = transformers.distiller(detr(family), teacher, dict(x=hint))
    shapes = [one.shape[-2:] for one in model.student_view.probe(['encoder'])['encoder']]
    assert shapes == [(side, side) for side in levels]
    assert 'encoder.layers.0.ffn.layers.0.0.weight' in plugins.gradients(model, DATA)
    plugins.train(model, DATA, lr=1e-3)
    plugins.assert_contracts(model, detr(family))


def test_tokens_stand_in_their_places():
    model = distiller(detr('deformable'), tap='encoder')
    tokens = []
    model.student.encoder.register_forward_hook(lambda module, args, value: tokens.append(value))
    tiny.step(model, DATA)
    seen, _ = model.objectives['x'].heard
    maps = seen.taps['encoder']
    assert torch.equal(torch.cat([one.flatten(2) for one in maps], dim=2).transpose(1, 2), tokens[-1])


@pytest.mark.parametrize('tap', ['decoder', 'bbox_head'])
def test_parts_that_cannot_run_alone_are_refused_in_one_sentence(tap):
    sentence = (
        f"objectives.x: tap '{tap}': this part of the .* cannot run alone, it needs more than features; tap 'backbone'"
    )
    hint = dict(type='kddense.FeatureObjective', tap=tap, connector=None)
    with pytest.raises(ValueError, match=sentence):
        transformers.distiller(detr('deformable'), detr('deformable', 16), dict(x=hint))


def test_the_neck_needs_no_view():
    hint = dict(type='kddense.FeatureObjective', tap='neck')
    model = transformers.distiller(detr('deformable'), detr('deformable', 16), dict(x=hint))
    assert 'backbone.layer2.0.conv1.weight' in plugins.gradients(model, DATA)


def test_an_opinion_of_single_images_judges_no_others():
    own, other = heard(distiller(detr('dab')))
    with pytest.raises(ViewError, match='judges no other queries'):
        own.cut(2)[0].judge(other.queries.cut(2)[0])


def test_an_ensemble_is_refused():
    members = [tiny.teacher_of(detr('dab')), tiny.teacher_of(detr('dab', 16))]
    teacher = dict(type='kddense.EnsembleTeacher', members=members)
    with pytest.raises(ValueError, match='teacher is an ensemble, and what its members say of queries has no mean'):
        tiny.build(
            dict(
                type='kddense.Distiller',
                student=detr('dab'),
                teacher=teacher,
                objectives=dict(x=dict(type='kddense.OverhearsQueries')),
            )
        )


def test_what_judges_other_queries_cannot_be_kept():
    """So a cached teacher is asked each time."""
    model = distiller(detr('dab'))
    _, other = heard(model)
    known = dict(taps={}, opinions=dict(queries=[other]), parts={})
    with pytest.raises(ViewError, match='holds a QueryOpinion, which cannot be kept'):
        keep(known, 2, Form('fp32', 5, False), model.teachers['teacher'].model, lambda kind: True)
