"""Masks by taps, and heads that speak as in training: twins with equal weights have nothing to learn."""

import pytest
import torch

from kddense import Objective
from kddense.registry import MODELS
from kddense.taps import tensors_of

from ..helpers import detectors, mask_models, plugins, tiny

DATA, BOXES = (tiny.detection_data(masks=one) for one in (True, False))
HEADS = {
    'fcos in strides': detectors.one_stage('fcos', {'bbox_head.norm_on_bbox': True}),
    **{head: detectors.one_stage(head) for head in detectors.HEADS},
}
BY_TAPS_ALONE = {
    'vfnet': mask_models.dense('vfnet/vfnet_r50_fpn_1x_coco'),
    'ddod': mask_models.dense('ddod/ddod_r50_fpn_1x_coco'),
    'free anchors': mask_models.dense('free_anchor/freeanchor_r50_fpn_1x_coco', {'bbox_head.norm_cfg': None}),
    'foveabox': mask_models.dense('foveabox/fovea_r50_fpn_4xb4-1x_coco', {'bbox_head.norm_cfg': None}),
}


@MODELS.register_module()
class Difference(Objective):
    """How far apart two models are: at a tap, or in what their heads say."""

    def __init__(self, kind=None, tap=None, **kwargs):
        super().__init__(**kwargs)
        self.kind, self.tap = kind, tap
        self.kinds = frozenset({kind} if kind else ())
        self.student_taps = self.teacher_taps = frozenset({tap} if tap else ())

    def forward(self, seen, taught):
        own, other = (self.values(answer) for answer in (seen, taught))
        assert len(own) == len(other) > 0
        return dict(loss=sum((a - b).abs().sum() for a, b in zip(own, other, strict=True)))

    def values(self, answer):
        if self.tap:
            return list(tensors_of(answer.taps[self.tap]))
        opinions = answer.opinions[self.kind]
        names = ('logits', 'deltas') if self.kind == 'dense' else ('logits',)
        return [getattr(one, name) for one in opinions for name in names]


def distiller(student, objective, teacher=None):
    return tiny.distiller(student, student if teacher is None else teacher, dict(x=objective))


def difference_of_twins(config, **objective):
    model = distiller(config, dict(type='kddense.Difference', **objective))
    data = DATA if 'mask_head' in config else BOXES
    assert float(plugins.losses_of(model.train(), data)['distill.x.loss']) > 0, 'of strangers it is not'
    plugins.make_twins(model)
    return float(plugins.losses_of(model, data)['distill.x.loss'])


@pytest.mark.parametrize('kind', ['dense', 'scores'])
@pytest.mark.parametrize('head', list(HEADS))
def test_twins_agree_in_what_their_heads_say(head, kind):
    assert difference_of_twins(HEADS[head], kind=kind) == 0


@pytest.mark.parametrize('head', [*HEADS, *BY_TAPS_ALONE])
def test_twins_agree_at_taps(head):
    assert difference_of_twins({**HEADS, **BY_TAPS_ALONE}[head], tap='bbox_head') == 0


def test_twins_agree_in_masks():
    assert difference_of_twins(mask_models.solo(), tap='mask_head') == 0


def test_masks_of_a_location_head_train_by_a_tap():
    student = mask_models.solo()
    hint = dict(type='kddense.FeatureObjective', tap='mask_head', levels=[0, 1, 2, 3, 4], connector=None)
    model = distiller(student, hint, mask_models.solo(width=16))
    found = plugins.gradients(model, DATA)
    assert 'mask_head.conv_mask_list.0.weight' in found
    plugins.train(model, DATA)
    plugins.assert_contracts(model, student)


def test_a_part_without_weights_computes_in_float32_whatever_the_teacher():
    """RoIs rounded to bfloat16 would lie pixels away."""
    answers = []
    columns = torch.arange(128.0).expand(1, 1, 128, 128)
    levels = [columns[..., ::step, ::step] for step in (1, 2, 4, 8)]
    rois = torch.tensor([[0.0, 301.0, 301.0, 401.0, 401.0]])
    for precision in ('fp32', 'bf16'):
        model = tiny.distiller(tiny.faster_rcnn(), tiny.teacher_of(tiny.faster_rcnn(), precision=precision), {})
        answers.append(model.teachers['teacher'].through('roi_head.bbox_roi_extractor', levels, rois))
    assert torch.equal(*answers)


@pytest.mark.parametrize(
    'config, tap',
    [
        (mask_models.condinst(), 'mask_head.mask_feature_head'),
    ],
    ids=['CondInst'],
)
def test_heads_that_cannot_run_alone_are_refused_in_one_sentence(config, tap):
    hint = dict(type='kddense.FeatureObjective', tap=tap, levels=[0], connector=None)
    part = tap.partition('.')[0]
    with pytest.raises(
        ValueError, match=f"objectives.x: tap '{part}': this part of the .* cannot run alone, it needs more"
    ):
        distiller(config, hint)


def test_a_detector_of_another_family_is_refused_by_kind():
    with pytest.raises(ValueError, match=r'objectives.x: student \(CondInst\) has no dense head; only one-stage'):
        distiller(mask_models.condinst(), dict(type='kddense.DenseHintonObjective'))
