"""KD-DETR (Wang et al. 2024): a view of one's own, which lets both models judge points that they share."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kddense import Objective
from kddense.registry import MODELS, VIEWS
from kddense.views import ModelView

from ..helpers import plugins, tiny
from ..helpers.transformers import deformable_detr

DATA = tiny.detection_data()
STUDENT, TEACHER = deformable_detr(), deformable_detr(16)
POINTS = 12


@dataclass(frozen=True)
class Points:
    """Queries that both decoders are given, each ``(N, Q, ·)``."""

    query: Tensor
    position: Tensor
    reference: Tensor

    def rescaled(self, scale):
        return self


@dataclass(frozen=True)
class PointOpinion:
    """Per decoder layer: class logits ``(L, N, Q, K)`` and boxes ``(L, N, Q, 4)``."""

    logits: Tensor
    boxes: Tensor


class DeformableDETRView(ModelView):
    """Shows what the decoder says of points."""

    explains = {'points': 'decoder of queries'}
    sampled_kinds = frozenset(explains)

    @classmethod
    def fits(cls, model):
        return type(model).__name__ == 'DeformableDETR'

    def check(self, kind):
        if kind not in self.kinds:
            super().check(kind)

    def differences(self, teacher, kind):
        own, other = self.model.embed_dims, teacher.model.embed_dims
        return [] if own == other else [f'embed_dims: {own} in the student, {other} in the teacher']

    def taps_of(self, kind):
        return ['forward_encoder()', 'pre_transformer()']

    def read_kind(self, kind, recording):
        memory = recording['forward_encoder()'].result
        images, _, width = memory['memory'].shape
        draw = [torch.randn(POINTS, width), torch.randn(POINTS, width), torch.rand(POINTS, 2)]
        points = Points(*(one.to(memory['memory']).expand(images, -1, -1) for one in draw))
        return [points], [self.judge(points, memory, recording['pre_transformer()'].result[1])]

    def judge(self, points, memory, rest):
        out = self.model.forward_decoder(
            query=points.query,
            query_pos=points.position,
            memory=memory['memory'],
            reference_points=points.reference,
            **rest,
        )
        logits, boxes = self.model.bbox_head(**out)
        return PointOpinion(logits.float(), boxes.float())

    def run(self, question, images):
        if not question.opinions:
            return super().run(question, images)
        features = self.model.extract_feat(images)
        into_encoder, rest = self.model.pre_transformer(features, list(question.data_samples))
        memory = self.model.forward_encoder(**into_encoder)
        return {'points': [self.judge(points, memory, rest) for points in question.samples['points']]}


@MODELS.register_module()
class KDDETR(Objective):
    """Classes by KL, boxes by L1, weighted by the teacher's confidence."""

    kinds = frozenset({'points'})
    compares_classes = True
    loss_names = ('loss_cls', 'loss_bbox')

    def forward(self, seen, taught):
        (own,), (other,) = seen.opinions['points'], taught.opinions['points']
        sure = other.logits.sigmoid().amax(-1)
        targets = other.logits.softmax(-1)
        divergence = F.kl_div(own.logits.log_softmax(-1), targets, reduction='none').sum(-1)
        boxes = (own.boxes - other.boxes).abs().mean(-1)
        return {key: (sure * one).sum() / sure.sum() for key, one in (('loss_cls', divergence), ('loss_bbox', boxes))}


@pytest.fixture
def view():
    VIEWS.register_module(module=DeformableDETRView)
    yield
    VIEWS.module_dict.pop('DeformableDETRView')


def build(objective, teacher=TEACHER, **options):
    teacher = tiny.teacher_of(teacher, **options)
    model = tiny.distiller(STUDENT, teacher, dict(x=objective))
    for one in (model.student, model.teachers['teacher'].model):
        torch.nn.init.normal_(one.level_embed)  # mmdet leaves it to init_weights
    return model


KD_DETR = dict(type='kddense.KDDETR')


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_a_view_of_ones_own_serves_a_kind_of_ones_own(view, precision):
    model = build(KD_DETR, precision=precision)
    assert isinstance(model.student_view, DeformableDETRView)
    found = plugins.gradients(model, DATA)
    assert {'backbone.layer2.0.conv1.weight', 'bbox_head.cls_branches.1.weight'} <= set(found)
    plugins.train(model, DATA, lr=1e-3)
    plugins.assert_contracts(model, STUDENT)


def test_twins_agree(view):
    model = build(KD_DETR, STUDENT)
    plugins.make_twins(model)
    losses = plugins.losses_of(model, DATA)
    assert float(losses['distill.x.loss_bbox']) == 0
    assert abs(float(losses['distill.x.loss_cls'])) < 1e-6


def test_the_teacher_masks_the_padding_of_its_own_images(view):
    """The sizes that it is told are those of the images as it sees them, without labels."""
    model = build(KD_DETR, deformable_detr(16, 16, {'data_preprocessor.pad_size_divisor': 128}))
    told = []
    encoder = model.teachers['teacher'].model.encoder
    encoder.register_forward_pre_hook(lambda module, args, kwargs: told.append(kwargs), with_kwargs=True)
    teacher = model.teachers['teacher']
    teacher.model.backbone.register_forward_pre_hook(lambda module, args: told.append(args[0].shape))
    tiny.step(model, DATA)
    shape, given = told
    assert shape[-2:] == (128, 128)
    finest = given['key_padding_mask'][:, : 16 * 16].unflatten(1, (16, 16))  # true where it is padding
    for mask, (height, width) in zip(finest, ((64, 64), (48, 60)), strict=True):
        inside = torch.zeros(16, 16, dtype=torch.bool)
        inside[: height // 8, : -(-width // 8)] = True
        assert torch.equal(~mask, inside)


def test_other_widths_are_named(view):
    with pytest.raises(ValueError, match='embed_dims: 16 in the student, 32 in the teacher. Give both configs the same'):
        build(KD_DETR, deformable_detr(16, 32))


def test_the_neck_needs_no_view():
    model = build(dict(type='kddense.FeatureObjective', tap='neck'), deformable_detr(16, 32))
    assert 'backbone.layer2.0.conv1.weight' in plugins.gradients(model, DATA)
    plugins.train(model, DATA, lr=1e-3)
    plugins.assert_contracts(model, STUDENT)


@pytest.mark.parametrize('tap', ['encoder', 'decoder', 'bbox_head'])
def test_parts_that_cannot_run_alone_are_refused_in_one_sentence(tap):
    sentence = f"objectives.x: tap '{tap}': this part of the .* cannot run alone, it needs more than features; tap 'backbone'"
    with pytest.raises(ValueError, match=sentence):
        build(dict(type='kddense.FeatureObjective', tap=tap, connector=None))
