"""Relations among RoIs of a batch, and among its images."""

import pytest
import torch

from kddense.losses import RKDLoss

from ..helpers import depth_estimators, detectors, plugins, tiny

LOSSES = dict(
    rkd=dict(type='kddense.RKDLoss'),
    soft=dict(type='kddense.DarkRankLoss'),
    hard=dict(type='kddense.DarkRankLoss', mode='hard'),
)


def build(student, teacher, scope='mmdet', loss=LOSSES['rkd'], **options):
    return tiny.distiller(
        student, teacher, dict(it=dict(type='kddense.RelationObjective', loss=loss, **options)), scope
    )


@pytest.mark.parametrize('loss', list(LOSSES))
def test_rois_of_all_images_are_related(loss):
    model = build(tiny.faster_rcnn(), tiny.faster_rcnn(width=16, fpn=24), loss=LOSSES[loss])
    heard = []
    model.objectives['it'].register_forward_pre_hook(lambda module, args: heard.extend(args))
    data = tiny.detection_data()
    value = tiny.step(model, data)['distill.it.loss']
    seen, taught = heard
    positive = seen.samples['roi'][0].positive
    assert len(positive) > 2
    assert set(seen.samples['roi'][0].image[positive].tolist()) == {0, 1}
    tap = 'roi_head.bbox_head.fc_cls:input'
    torch.testing.assert_close(value, model.objectives['it'].loss(seen.taps[tap][positive], taught.taps[tap][positive]))
    assert 'backbone.layer1.0.conv1.weight' in plugins.gradients(model, data)
    plugins.assert_contracts(model, tiny.faster_rcnn())


def test_the_teacher_judges_the_students_rois():
    """Twins have the same embeddings of them, and so the same relations."""
    model = build(tiny.faster_rcnn(), tiny.faster_rcnn())
    plugins.make_twins(model)
    assert float(plugins.losses_of(model, tiny.detection_data())['distill.it.loss']) == pytest.approx(0, abs=1e-3)


def test_classes_need_not_agree():
    teacher = tiny.faster_rcnn({'roi_head.bbox_head.num_classes': 7})
    assert float(tiny.step(build(tiny.faster_rcnn(), teacher), tiny.detection_data())['distill.it.loss']) > 0


def test_most_are_evenly_chosen():
    model = build(tiny.faster_rcnn(), tiny.faster_rcnn(width=16), most=3)
    heard = []
    model.objectives['it'].register_forward_pre_hook(lambda module, args: heard.extend(args))
    tiny.step(model, tiny.detection_data())
    positive = heard[0].samples['roi'][0].positive
    chosen = model.objectives['it']._related(heard[0])
    assert len(positive) > 3
    assert chosen.tolist() == [positive[0], positive[round((len(positive) - 1) / 2)], positive[-1]]


def test_a_cascade_relates_its_last_stage():
    model = build(tiny.cascade_rcnn(), tiny.cascade_rcnn(width=16))
    assert model.objectives['it'].tap == 'roi_head.bbox_head.2.fc_cls:input'
    assert tiny.step(model, tiny.detection_data())['distill.it.loss'].isfinite()
    with pytest.raises(ValueError, match=r'objectives\.it: stage must name one of 3 RoI heads of the student, got 3'):
        build(tiny.cascade_rcnn(), tiny.cascade_rcnn(), stage=3)


@pytest.mark.parametrize(
    'student, teacher, scope, data',
    [
        (
            tiny.segmentor('pspnet_r50-d8'),
            tiny.segmentor('pspnet_r50-d8', width=16),
            'mmseg',
            tiny.segmentation_data(count=4),
        ),
        (
            detectors.one_stage('fcos'),
            tiny.faster_rcnn(width=16),
            'mmdet',
            tiny.detection_data(((64, 64),) * 4, ([],) * 4),
        ),
        (
            depth_estimators.depth_estimator(),
            depth_estimators.depth_estimator(width=16),
            'mmseg',
            depth_estimators.depth_data(count=4),
        ),
    ],
    ids=['segmentor', 'one-stage', 'depth'],
)
def test_images_are_related_where_there_are_no_rois(student, teacher, scope, data):
    model = build(student, teacher, scope)
    assert model.objectives['it'].among == 'images'
    heard = []
    model.objectives['it'].register_forward_pre_hook(lambda module, args: heard.extend(args))
    value = tiny.step(model, data)['distill.it.loss']
    ours, theirs = (answer.taps['backbone'][-1].mean(dim=(2, 3)) for answer in heard)
    torch.testing.assert_close(value, RKDLoss()(ours, theirs))
    assert plugins.gradients(model, data)


@pytest.mark.parametrize('loss', list(LOSSES))
def test_one_image_and_images_without_boxes_have_no_relation(loss):
    model = build(
        tiny.segmentor('pspnet_r50-d8', {'decode_head.norm_cfg': None, 'auxiliary_head.norm_cfg': None}),
        tiny.segmentor('pspnet_r50-d8', width=16),
        'mmseg',
        LOSSES[loss],
    )
    losses = tiny.step(model, tiny.segmentation_data(count=1))
    assert losses['distill.it.loss'] == 0
    tiny.total(losses).backward()
    model = build(tiny.faster_rcnn(), tiny.faster_rcnn(width=16), loss=LOSSES[loss])
    losses = tiny.step(model, tiny.detection_data(((64, 64),), ([],)))
    assert losses['distill.it.loss'] == 0
    tiny.total(losses).backward()


def test_bad_options_are_named():
    for options, message in (
        (dict(among='pixels'), "among must be .*'auto', 'rois'.*'images'"),
        (dict(most=1), 'objectives.it.*most must be at least 2, got 1'),
    ):
        with pytest.raises(ValueError, match=message):
            build(tiny.faster_rcnn(), tiny.faster_rcnn(), **options)
    with pytest.raises(ValueError, match='has no RoI head'):
        build(tiny.faster_rcnn(), detectors.one_stage('fcos'), among='rois')
