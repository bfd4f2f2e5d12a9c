"""The option ``standardize`` of every objective of soft targets: the student's scale no longer matters."""

import pytest
import torch

from ..helpers import detectors, plugins, tiny

SEGMENTOR = tiny.segmentor('pspnet_r50-d8')
OBJECTIVES = {
    'feature': dict(
        type='kddense.FeatureObjective', tap='decode_head', loss=dict(type='kddense.HintonLoss', standardize=True)
    ),
    'pixel': dict(type='kddense.PixelWiseObjective', standardize=True, temperature=2.0),
    'dkd': dict(type='kddense.DKDObjective', standardize=True, temperature=2.0),
    'roi': dict(type='kddense.ChenRoIObjective', standardize=True, temperature=2.0, mu=0, nu=0, background_weight=1.0),
}


def build(name, objective):
    student, scope = (tiny.faster_rcnn(), 'mmdet') if name == 'roi' else (SEGMENTOR, 'mmseg')
    model = tiny.distiller(student, student, dict(it=objective), scope)
    plugins.make_twins(model)
    return model, tiny.detection_data() if name == 'roi' else tiny.segmentation_data()


@pytest.mark.parametrize('name', list(OBJECTIVES))
@pytest.mark.parametrize('standardize', [True, False])
def test_the_scale_of_the_students_logits_drops_out(name, standardize):
    objective = dict(OBJECTIVES[name])
    if not standardize:
        objective.pop('standardize', None)
        objective.pop('loss', None)
        objective.update(loss=dict(type='kddense.HintonLoss')) if name == 'feature' else None
    model, data = build(name, objective)
    student = model.student
    classifier = student.roi_head.bbox_head.fc_cls if name == 'roi' else student.decode_head.conv_seg
    key = 'distill.it.loss_cls' if name == 'roi' else 'distill.it.loss'
    values = []
    for factor in (1, 3):
        torch.manual_seed(0)
        with torch.no_grad():
            for weight in classifier.parameters():
                weight.mul_(factor)
        values.append(plugins.losses_of(model, data)[key].item())
    assert (values[1] == pytest.approx(values[0], rel=1e-3, abs=1e-5)) == standardize


@pytest.mark.parametrize(
    'student, objective, scope, message',
    [
        (tiny.faster_rcnn(), 'ChenRPNObjective', 'mmdet', 'would leave only the sign of the two logits of an anchor'),
        (detectors.one_stage('fcos'), 'ChenDenseObjective', 'mmdet', 'needs classes that exclude one another'),
        (detectors.one_stage('fcos'), 'DKDObjective', 'mmdet', 'needs classes that exclude one another'),
        (detectors.one_stage('fcos'), 'PixelWiseObjective', 'mmdet', 'needs classes that exclude one another'),
    ],
)
def test_sigmoid_heads_are_refused(student, objective, scope, message):
    options = dict(on='bbox_head') if objective == 'PixelWiseObjective' else {}
    config = dict(it=dict(type=f'kddense.{objective}', standardize=True, **options))
    with pytest.raises(ValueError, match=f'objectives.it.*{message}'):
        tiny.distiller(student, student, config, scope)
