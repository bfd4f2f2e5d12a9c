"""FeatureObjective: any tap of any model against any tap of any other."""

import pytest
import torch
from torch.nn import functional as F

from kddense.connectors import ConvConnector, LinearConnector
from kddense.exchange import Question
from kddense.views import build_view

from ..helpers import tiny


def step(student, teacher, objective, data=None, scope='mmdet', **options):
    """Run one step of one objective; return the model, its loss, and what both models showed at the taps."""
    objective = dict(dict(type='kddense.FeatureObjective'), **objective)
    model = tiny.distiller(student, teacher, dict(it=objective), scope=scope, **options)
    heard = {}
    forward = model.objectives['it'].forward

    def noted(seen, taught):
        heard.update(student=seen.taps, teacher=taught.taps)
        return forward(seen, taught)

    model.objectives['it'].forward = noted
    data = data or (tiny.detection_data() if scope == 'mmdet' else tiny.segmentation_data())
    losses = tiny.step(model, data)
    tiny.total(losses).backward()
    return model, losses['distill.it.loss'].item(), heard


def test_every_level_of_a_neck_counts_the_same():
    model, loss, heard = step(tiny.faster_rcnn(), tiny.faster_rcnn(width=16, fpn=24), dict(tap='neck'))
    layers = model.objectives['it'].connectors
    pairs = list(zip(layers, heard['student']['neck'], heard['teacher']['neck'], strict=True))
    assert len(pairs) == 5
    expected = sum(((layer(own) - other) ** 2).mean() for layer, own, other in pairs) / 5
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert all(isinstance(layer, ConvConnector) for layer in layers)
    assert all(p.grad.abs().sum() > 0 for p in layers.parameters())


def test_the_teacher_shows_what_its_own_parts_compute():
    data = tiny.detection_data(sizes=((64, 64), (64, 64)))
    model, _, heard = step(tiny.faster_rcnn(), tiny.faster_rcnn(width=16), dict(tap='neck'), data)
    teacher = model.teachers['teacher'].model
    with torch.no_grad():
        expected = teacher.extract_feat(
            teacher.data_preprocessor(tiny.detection_data(((64, 64),) * 2), False)['inputs']
        )
    for level, wanted in zip(heard['teacher']['neck'], expected, strict=True):
        torch.testing.assert_close(level, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    'levels, teacher_levels, channels',
    [([0, 2], None, [(8, 16), (32, 64)]), ([1], [3], [(16, 128)]), ([-1, 0], [0, -1], [(64, 16), (8, 128)])],
)
def test_levels(levels, teacher_levels, channels):
    model, loss, heard = step(
        tiny.faster_rcnn(),
        tiny.faster_rcnn(width=16),
        dict(tap='backbone', levels=levels, teacher_levels=teacher_levels),
    )
    layers = model.objectives['it'].connectors
    assert [(layer.conv.in_channels, layer.conv.out_channels) for layer in layers] == channels
    total = 0
    for layer, own, other in zip(layers, levels, teacher_levels or levels, strict=True):
        ours, theirs = layer(heard['student']['backbone'][own]), heard['teacher']['backbone'][other]
        ours = F.interpolate(ours, theirs.shape[2:], mode='bilinear', align_corners=False)
        total += ((ours - theirs) ** 2).mean().item() / len(levels)
    assert loss == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize('resize', ['student', 'teacher'])
def test_either_side_is_resized(resize):
    objective = dict(tap='backbone.layer3', teacher_tap='backbone.layer2', resize=resize, connector=None)
    model, loss, heard = step(tiny.faster_rcnn(), tiny.faster_rcnn(width=16), objective)
    ours, theirs = heard['student']['backbone.layer3'], heard['teacher']['backbone.layer2']
    assert ours.shape[1] == theirs.shape[1]
    assert ours.shape[2:] != theirs.shape[2:]
    if resize == 'student':
        ours = F.interpolate(ours, theirs.shape[2:], mode='bilinear', align_corners=False)
    else:
        theirs = F.interpolate(theirs, ours.shape[2:], mode='bilinear', align_corners=False)
    assert loss == pytest.approx(((ours - theirs) ** 2).mean().item(), rel=1e-4)
    assert not list(model.objectives.parameters())


def test_connectors_are_made_where_they_are_needed():
    """The first level has as many channels in both, the others have not."""
    objective = dict(tap='backbone', teacher_levels=[0, 1], levels=[1, 1])
    model, _, _ = step(tiny.faster_rcnn(), tiny.faster_rcnn(width=16), objective)
    assert [type(layer).__name__ for layer in model.objectives['it'].connectors] == ['Identity', 'ConvConnector']


def test_a_connector_from_the_config():
    connector = dict(type='kddense.Connector', norm=dict(type='BN'), kernel_size=3)
    model, _, _ = step(tiny.faster_rcnn(), tiny.faster_rcnn(), dict(tap='neck', connector=connector, levels=[0]))
    (layer,) = model.objectives['it'].connectors
    assert layer.conv.kernel_size == (3, 3)
    assert isinstance(layer.norm, torch.nn.BatchNorm2d)
    assert layer.norm.num_batches_tracked == 1


def test_vectors_of_the_roi_head_at_the_students_rois():
    tap = 'roi_head.bbox_head.shared_fcs.0:copy'
    teacher = tiny.faster_rcnn({'roi_head.bbox_head.fc_out_channels': 48}, width=16)
    model, loss, heard = step(tiny.faster_rcnn(), teacher, dict(tap=tap))
    (layer,) = model.objectives['it'].connectors
    assert isinstance(layer, LinearConnector)
    ours, theirs = heard['student'][tap], heard['teacher'][tap]
    assert ours.shape == (len(theirs), 32)
    assert theirs.shape[1] == 48
    assert loss == pytest.approx(((layer(ours) - theirs) ** 2).mean().item(), rel=1e-4)


@pytest.mark.parametrize('stock', ['pspnet_r50-d8', 'deeplabv3_r50-d8', 'ocrnet_r50-d8'])
@pytest.mark.parametrize('head', ['decode_head', 'auxiliary_head'])
def test_hinton_on_a_segmentors_logits(stock, head):
    if stock == 'ocrnet_r50-d8':
        head = dict(decode_head='decode_head.1', auxiliary_head='decode_head.0')[head]
    objective = dict(tap=head, loss=dict(type='kddense.HintonLoss', temperature=2.0), connector=None)
    teacher = tiny.segmentor(stock, width=16, head=24)
    _, loss, heard = step(tiny.segmentor(stock), teacher, objective, scope='mmseg')
    ours, theirs = heard['student'][head], heard['teacher'][head]
    assert ours.shape == theirs.shape == (2, 5, 8, 8)
    expected = 0.0
    rows = (logits.double().permute(0, 2, 3, 1).reshape(-1, 5) for logits in (ours, theirs))
    for own, other in zip(*rows, strict=True):
        p, q = (other / 2).softmax(0), (own / 2).softmax(0)
        expected += 4 * (p * (p / q).log()).sum().item() / (2 * 8 * 8)
    assert loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    'loss, key',
    [(dict(type='kddense.HintonLoss'), 'mode'), (dict(type='kddense.DISTLoss'), 'classes')],
)
def test_one_logit_has_no_softmax(loss, key):
    models = [tiny.segmentor('pspnet_r50-d8', width=width) for width in (8, 16)]
    for model in models:
        heads = [model['decode_head'], model['auxiliary_head']]
        for head in heads:
            head.update(num_classes=2, out_channels=1, threshold=0.5)
            head['loss_decode'] = dict(type='CrossEntropyLoss', use_sigmoid=True)
    data = tiny.segmentation_data()
    for sample in data['data_samples']:
        sample.gt_sem_seg.data.clamp_(max=1)
    objective = dict(tap='decode_head', loss=loss, connector=None)
    with pytest.raises(ValueError, match=rf"tap 'decode_head' has one logit, .* set loss.{key}='sigmoid'"):
        step(*models, objective, data, scope='mmseg')

    _, found, _ = step(*models, dict(objective, loss={**loss, key: 'sigmoid'}), data, scope='mmseg')
    assert found > 0


def test_a_teacher_of_other_strides_is_resized_to():
    teacher = tiny.segmentor('pspnet_r50-d8', {'backbone.strides': (1, 2, 2, 1)}, width=16)
    objective = dict(tap='decode_head', loss=dict(type='kddense.HintonLoss'), resize='teacher')
    _, loss, heard = step(tiny.segmentor('pspnet_r50-d8'), teacher, objective, scope='mmseg')
    assert heard['teacher']['decode_head'].shape[2:] == (4, 4)
    assert loss > 0


def test_a_detector_teaches_a_segmentor():
    teacher = tiny.teacher_of(tiny.faster_rcnn(width=16), 'mmdet')
    objective = dict(tap='backbone.layer3', teacher_tap='backbone.layer3')
    model, loss, heard = step(tiny.segmentor('pspnet_r50-d8'), teacher, objective, scope='mmseg')
    assert type(model.teachers['teacher'].model).__module__.startswith('mmdet.')
    assert type(model.student).__module__.startswith('mmseg.')
    assert heard['teacher']['backbone.layer3'].shape[1:] == (64, 4, 4)
    assert loss > 0


@pytest.mark.parametrize('stock', ['retinanet', 'fcos'])
@pytest.mark.parametrize('tap', ['neck', 'bbox_head', 'bbox_head.cls_convs.0'])
def test_single_stage_detectors(stock, tap):
    """A tap on a shared convolution hears it once per level."""
    model, loss, heard = step(
        tiny.single_stage(stock), tiny.single_stage(stock, width=16, fpn=24), dict(tap=f'{tap}:copy', levels=[0, 1, 2])
    )
    assert loss > 0
    if tap == 'bbox_head.cls_convs.0':
        assert len(heard['student'][f'{tap}:copy']) == 5
    if tap == 'bbox_head':
        assert not list(model.objectives.parameters())
    assert all(p.grad is not None for p in model.objectives.parameters())


def test_several_teachers_by_name():
    teacher = dict(
        wide=tiny.teacher_of(tiny.faster_rcnn(width=16)),
        other=tiny.teacher_of(tiny.single_stage('retinanet', width=12, fpn=24)),
    )
    config = dict(
        type='kddense.Distiller',
        student=tiny.faster_rcnn(),
        teacher=teacher,
        objectives=dict(
            wide=dict(type='kddense.FeatureObjective', tap='neck', teacher='wide'),
            other=dict(type='kddense.FeatureObjective', tap='neck', teacher='other'),
            roi=dict(type='kddense.ChenRoIObjective', teacher='wide'),
        ),
    )
    model = tiny.build(config)
    ran = []
    networks = dict(student=model.student, **{name: one.model for name, one in model.teachers.items()})
    for name, network in networks.items():
        network.backbone.register_forward_hook(lambda *args, name=name: ran.append(name))
    losses = tiny.step(model, tiny.detection_data())
    assert ran == ['other', 'student', 'wide']  # who need not know the student's RoIs goes before it
    assert {key for key in losses if key.startswith('distill')} == {
        'distill.wide.loss',
        'distill.other.loss',
        'distill.roi.loss_cls',
        'distill.roi.loss_bbox',
    }
    layer = model.objectives['other'].connectors[0]
    assert layer.conv.out_channels == 24


def test_the_weight_multiplies():
    losses = []
    for weight in (1.0, 0.25):
        _, loss, _ = step(tiny.faster_rcnn(), tiny.faster_rcnn(), dict(tap='neck', weight=weight))
        losses.append(loss)
    assert losses[1] == pytest.approx(0.25 * losses[0], rel=1e-5)


def test_a_frozen_part_of_the_student_is_no_place_for_a_hint():
    objective = dict(h=dict(type='kddense.FeatureObjective', tap='backbone', levels=[0]))
    model = tiny.distiller(tiny.faster_rcnn(), tiny.faster_rcnn(width=16), objective)
    model.student.backbone.requires_grad_(False)
    with pytest.raises(ValueError, match=r"tap 'backbone': no gradient reaches this part of the student: it is frozen"):
        tiny.step(model, tiny.detection_data())


def test_methods_of_the_model_itself_can_be_tapped():
    model = tiny.build(tiny.faster_rcnn())
    images = torch.zeros(1, 3, 64, 64)
    answer = build_view(model, 'teacher').answer(Question(frozenset({'extract_feat()'})), images)
    assert [level.shape[1] for level in answer.taps['extract_feat()'].result] == [16] * 5


@pytest.mark.parametrize(
    'student, scope, tap',
    [
        (tiny.faster_rcnn, 'mmdet', 'neck'),
        (lambda **sizes: tiny.segmentor('pspnet_r50-d8', **sizes), 'mmseg', 'backbone'),
    ],
    ids=['with a neck', 'without'],
)
def test_without_a_tap_it_compares_what_the_heads_share(student, scope, tap):
    model, loss, _ = step(student(), student(width=12), {}, scope=scope)
    _, named, _ = step(student(), student(width=12), dict(tap=tap), scope=scope)
    assert (model.objectives['it'].tap, model.objectives['it'].teacher_tap) == (tap, tap)
    assert loss == named
