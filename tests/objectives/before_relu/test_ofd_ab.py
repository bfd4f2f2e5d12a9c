"""OFD and AB on segmentors and detectors: what is compared, margins, weights of levels, and networks without a norm."""

import pytest
import torch

from kddense.losses import boundary_distance, negative_mean, partial_distance

from ...helpers import plugins, tiny

STUDENT = tiny.segmentor('pspnet_r50-d8')
TEACHER = tiny.segmentor('pspnet_r50-d8', width=16)


def build(kind='OFD', teacher=TEACHER, student=STUDENT, scope='mmseg', **options):
    teacher = tiny.teacher_of(teacher, scope, **options.pop('placed', {}))
    return tiny.distiller(student, teacher, dict(it=dict(type=f'kddense.{kind}Objective', **options)), scope)


def heard_in(model, data):
    heard = []
    model.objectives['it'].register_forward_pre_hook(lambda module, args: heard.extend(args))
    value = tiny.step(model, data)['distill.it.loss']
    taps = [f'backbone.layer{stage}.1.relu:input:copy' for stage in (1, 2, 3, 4)]
    return value, *([answer.taps[tap][-1] for tap in taps] for answer in heard)


@pytest.mark.parametrize('kind', ['OFD', 'AB'])
def test_it_is_the_weighted_sum_over_stages(kind):
    model = build(kind, weight=1)
    model.objectives['it'].eval()  # its norms, to run them again
    model.objectives['it'].train = lambda mode=True: model.objectives['it']
    value, ours, theirs = heard_in(model, tiny.segmentation_data())
    teacher = model.teachers['teacher'].model
    expected = 0
    for level, (own, other, layer) in enumerate(zip(ours, theirs, model.objectives['it'].connectors, strict=True)):
        norm = teacher.get_submodule(f'backbone.layer{level + 1}.1.bn2')
        assert (other < 0).any(), 'before the ReLU'
        if kind == 'OFD':
            loss = partial_distance(layer(own), other, negative_mean(norm.bias, norm.weight))
        else:
            loss = boundary_distance(layer(own), other)
        expected = expected + loss / 2 ** (3 - level)
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize('kind', ['OFD', 'AB'])
@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_it_trains_under_all_contracts(kind, precision):
    def made():
        return build(kind, placed=dict(precision=precision))

    model = made()
    assert 'backbone.layer1.0.conv1.weight' in plugins.gradients(model, tiny.segmentation_data())
    plugins.train(model, tiny.segmentation_data())
    plugins.assert_contracts(model, STUDENT, 'mmseg', rebuild=made)


def test_connectors_begin_as_the_authors_do():
    layers = build(teacher=tiny.segmentor('pspnet_r50-d8', width=64)).objectives['it'].connectors
    for layer in layers:
        assert layer.conv.bias is None
        assert isinstance(layer.norm, torch.nn.BatchNorm2d)
        assert layer.conv.weight.std().item() == pytest.approx((2 / layer.conv.out_channels) ** 0.5, rel=0.1)


def test_a_folded_teacher_has_the_margins_that_it_was_trained_with(tmp_path):
    source = tiny.build(TEACHER, scope='mmseg')
    tiny.shake(source)
    torch.save(source.state_dict(), tmp_path / 'teacher.pth')
    for precision in ('fp32', 'bf16'):
        model = build(placed=dict(checkpoint=str(tmp_path / 'teacher.pth'), precision=precision))
        for stage in (1, 2, 3, 4):
            norm = source.get_submodule(f'backbone.layer{stage}.1.bn2')
            margin = model.objectives['it'].get_buffer(f'margin{stage - 1}')
            assert torch.equal(margin, negative_mean(norm.bias, norm.weight))
    assert not any('margin' in key for key in model.objectives.state_dict())


def test_layers_of_heads_and_their_weights():
    model = build(parts=['backbone', 'decode_head.bottleneck'], level_weights=[0.1, 0.2, 0.3, 0.4, 2])
    assert len(model.objectives['it'].connectors) == 5
    found = plugins.gradients(model, tiny.segmentation_data())
    assert 'decode_head.bottleneck.conv.weight' in found
    one = build(parts=['backbone', 'decode_head.bottleneck'], levels=[2, 4])
    assert one.objectives['it'].level_weights == [0.5, 1]
    assert len(one.objectives['it'].student_taps) == 2


@pytest.mark.parametrize('kind', ['OFD', 'AB'])
def test_detectors(kind):
    model = build(kind, tiny.faster_rcnn(width=16, fpn=24), tiny.faster_rcnn(), 'mmdet')
    assert plugins.gradients(model, tiny.detection_data())


def test_networks_without_a_norm_need_a_margin():
    swin = tiny.faster_rcnn(name='swin')
    with pytest.raises(
        ValueError, match=r"objectives\.it: 'backbone' of the teacher has no batch norm .* set margin='none'"
    ):
        build(teacher=swin, student=tiny.faster_rcnn(), scope='mmdet')
    model = build(teacher=swin, student=tiny.faster_rcnn(), scope='mmdet', margin='none')
    assert tiny.step(model, tiny.detection_data())['distill.it.loss'] > 0


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(parts='backbone'), 'parts must be a list'),
        (dict(level_weights=[1, 2]), 'level_weights must be 4 numbers that are at least 0'),
        (dict(margin=0.5), "margin must be None, 'none' or a number that is at most 0, got 0.5"),
        (dict(levels=[7]), r'levels must name some of 0\.\.3 of backbone, got \[7\]'),
        (dict(parts=['backbone.layer9']), "has no part 'backbone.layer9'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=f'objectives.it.*{message}'):
        build(**options)
