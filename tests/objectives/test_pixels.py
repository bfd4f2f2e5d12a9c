"""Objectives of segmentors: which maps of the two heads each loss is given, and whose classes they are."""

import itertools

import pytest
import torch
from mmengine.logging import MessageHub
from torch.nn import functional as F

from kddense.losses import channel_wise_divergence, pair_wise_similarity, pixel_wise_divergence

from ..helpers import segmentors, tiny

NAMES = ('road', 'car', 'tree', 'sky', 'person')
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def hub():
    """No run is going on."""
    fresh = MessageHub.get_instance(f'pixels_{next(_numbers)}')
    yield fresh
    MessageHub._instance_dict.pop(fresh.instance_name)


def run(objective, student, teacher, data=None, heads=segmentors.last_head, **options):
    """Run a step of one objective; return its loss, and what both heads showed, all by their own layers."""
    model = tiny.distiller(student, teacher, dict(it=objective), scope='mmseg', **options)
    models = model.student, model.teachers['teacher'].model
    heard = [segmentors.listen(heads(one)) for one in models]
    losses = tiny.step(model, data or tiny.segmentation_data())
    assert [len(own['logits']) for own in heard] == [1, 1]
    own, other = ({key: values[0] for key, values in one.items()} for one in heard)
    return model, losses, own, other


def resized(maps, like):
    return F.interpolate(maps, like.shape[2:], mode='bilinear', align_corners=False)


def objective(kind, **options):
    return dict(type=f'kddense.{kind}Objective', weight=1.0, **options)


def pspnet(*changes, **options):
    return tiny.segmentor('pspnet_r50-d8', *changes, **options)


LOSSES = dict(
    CWD=('logits', channel_wise_divergence),
    PixelWise=('logits', pixel_wise_divergence),
    PairWise=('feature', pair_wise_similarity),
)

# --- which maps ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', LOSSES)
@pytest.mark.parametrize('resize', ['student', 'teacher'])
def test_where_strides_differ_one_side_is_resized(kind, resize):
    """MobileNetV2 has stride 32, the teacher 8."""
    data = tiny.segmentation_data(size=(96, 128))
    which, loss = LOSSES[kind]
    _, losses, own, other = run(objective(kind, resize=resize), segmentors.mobilenet(), pspnet(width=12), data)
    own, other = own[which], other[which]
    assert own.shape[2:] == (3, 4)
    assert other.shape[2:] == (12, 16)
    own, other = (resized(own, other), other) if resize == 'student' else (own, resized(other, own))
    assert losses['distill.it.loss'].item() == pytest.approx(loss(own, other).item(), rel=1e-5)


PAIRS = dict(
    segformer=(segmentors.segformer, lambda: pspnet(width=12)),
    deeplabv3_to_fast_scnn=(segmentors.fast_scnn, lambda: tiny.segmentor('deeplabv3_r50-d8', width=12)),
    ocrnet_to_mobilenet=(segmentors.mobilenet, lambda: tiny.segmentor('ocrnet_r50-d8', width=12)),
)


@pytest.mark.parametrize('kind', LOSSES)
@pytest.mark.parametrize('pair', PAIRS)
def test_any_two_segmentors(kind, pair):
    student, teacher = PAIRS[pair]
    options = dict(classes='softmax') if kind == 'PixelWise' else {}
    which, loss = LOSSES[kind]
    _, losses, own, other = run(objective(kind, **options), student(), teacher())
    expected = loss(resized(own[which], other[which]), other[which])
    assert losses['distill.it.loss'].item() == pytest.approx(expected.item(), rel=1e-5)
    assert expected > 0
    (grad,) = torch.autograd.grad(losses['distill.it.loss'], own[which])
    assert grad.abs().sum() > 0


# --- pixel-wise ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'options, arguments',
    [
        (dict(mode='code'), dict(mode='code')),
        (dict(direction='student_teacher'), dict(direction='student_teacher')),
        (dict(temperature=3.0), dict(temperature=3.0)),
        (dict(classes='sigmoid'), dict(classes='sigmoid')),
    ],
)
def test_options_of_the_pixel_wise_loss(options, arguments):
    _, losses, own, other = run(objective('PixelWise', **options), pspnet(), pspnet(width=12))
    expected, plain = (pixel_wise_divergence(own['logits'], other['logits'], **some) for some in (arguments, {}))
    assert losses['distill.it.loss'].item() == pytest.approx(expected.item(), rel=1e-5)
    assert abs(expected - plain) > 1e-3 * plain


def test_heads_that_decide_each_class_on_its_own_are_compared_so():
    _, losses, own, other = run(objective('PixelWise'), segmentors.fast_scnn(), pspnet(width=12))
    expected = pixel_wise_divergence(own['logits'], other['logits'], classes='sigmoid')
    assert losses['distill.it.loss'].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_students_own_loss_says_what_the_classes_are():
    _, losses, own, other = run(objective('PixelWise'), pspnet(width=12), segmentors.fast_scnn())
    expected = pixel_wise_divergence(own['logits'], other['logits'], classes='softmax')
    assert losses['distill.it.loss'].item() == pytest.approx(expected.item(), rel=1e-5)


def half_labelled():
    data = tiny.segmentation_data()
    data['data_samples'][0].gt_sem_seg.data[:, :, :30] = 255
    return data


@pytest.mark.parametrize('mode', ['paper', 'code'])
def test_pixels_without_a_label_can_be_left_out(mode):
    config = objective('PixelWise', mode=mode, ignore_unlabelled_pixels=True)
    _, losses, own, other = run(config, pspnet(), pspnet(width=12), half_labelled())
    mask = torch.ones(2, 8, 8, dtype=torch.bool)
    mask[0, :, :4] = False  # the pixels in the middle of the cells are 4, 12, 20, 28, 36, …
    expected = pixel_wise_divergence(own['logits'], other['logits'], mode=mode, mask=mask)
    assert losses['distill.it.loss'].item() == pytest.approx(expected.item(), rel=1e-5)


def test_by_default_all_pixels_count():
    _, losses, own, other = run(objective('PixelWise'), pspnet(), pspnet(width=12), half_labelled())
    expected = pixel_wise_divergence(own['logits'], other['logits'])
    assert losses['distill.it.loss'].item() == pytest.approx(expected.item(), rel=1e-5)


# --- channel-wise -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('temperature', [1.0, 4.0])
def test_channel_wise_on_logits(temperature):
    config = objective('CWD', temperature=temperature)
    model, losses, own, other = run(config, pspnet(), pspnet(width=12, head=24))
    expected = channel_wise_divergence(own['logits'], other['logits'], temperature)
    assert losses['distill.it.loss'].item() == pytest.approx(expected.item(), rel=1e-5)
    assert not list(model.objectives.parameters())


@pytest.mark.parametrize(
    'head, connector, layers',
    [(24, 'auto', 1), (16, 'auto', 0), (16, None, 0), (16, dict(type='kddense.Connector', kernel_size=3), 1)],
)
def test_channel_wise_on_features(head, connector, layers):
    config = objective('CWD', compare='feature', connector=connector)
    model, losses, own, other = run(config, pspnet(), pspnet(width=12, head=head))
    (layer,) = model.objectives['it'].connectors
    assert len(list(layer.parameters())) == 2 * layers
    expected = channel_wise_divergence(layer(own['feature']), other['feature'], 4.0)
    assert losses['distill.it.loss'].item() == pytest.approx(expected.item(), rel=1e-4)
    losses['distill.it.loss'].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters() if parameter.dim() > 1)


def test_features_of_other_channels_need_a_connector():
    with pytest.raises(ValueError, match=r'^objectives.it: the student has 16 channels and the teacher 24'):
        run(objective('CWD', compare='feature', connector=None), pspnet(), pspnet(head=24))


@pytest.mark.parametrize('compare, weight', [('logits', 3.0), ('feature', 50.0)])
def test_the_papers_weights_of_channel_wise(compare, weight):
    _, losses, own, other = run(dict(type='kddense.CWDObjective', compare=compare), pspnet(), pspnet(width=12))
    expected = weight * channel_wise_divergence(own[compare], other[compare])
    assert losses['distill.it.loss'].item() == pytest.approx(expected.item(), rel=1e-5)


# --- auxiliary heads ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', LOSSES)
def test_an_auxiliary_head(kind):
    def auxiliary(model):
        return model.auxiliary_head

    which, loss = LOSSES[kind]
    _, losses, own, other = run(
        objective(kind, on='auxiliary_head'), segmentors.mobilenet(), pspnet(width=12), heads=auxiliary
    )
    expected = loss(resized(own[which], other[which]), other[which])
    assert losses['distill.it.loss'].item() == pytest.approx(expected.item(), rel=1e-5)


def test_several_auxiliary_heads_are_averaged_pair_by_pair():
    model = tiny.distiller(
        segmentors.fast_scnn(),
        segmentors.fast_scnn({'auxiliary_head.0.channels': 12}),
        dict(it=objective('CWD', on='auxiliary_head', compare='feature')),
        scope='mmseg',
    )
    teacher = model.teachers['teacher'].model
    pairs = zip(model.student.auxiliary_head, teacher.auxiliary_head, strict=True)
    heard = [[segmentors.listen(head) for head in pair] for pair in pairs]
    losses = tiny.step(model, tiny.segmentation_data())
    layers = model.objectives['it'].connectors
    assert [type(layer).__name__ for layer in layers] == ['ConvConnector', 'Identity']
    expected = [
        channel_wise_divergence(layer(own['feature'][0]), other['feature'][0])
        for layer, (own, other) in zip(layers, heard, strict=True)
    ]
    assert losses['distill.it.loss'].item() == pytest.approx(sum(expected).item() / 2, rel=1e-5)


def test_as_many_auxiliary_heads_are_needed():
    with pytest.raises(ValueError, match=r'^objectives.it: the student has 2 auxiliary heads and the teacher 1'):
        run(objective('PixelWise', on='auxiliary_head'), segmentors.fast_scnn(), pspnet())


# --- classes ------------------------------------------------------------------------------------------------------------


def named(config, names, **options):
    """Return a teacher whose config says what its classes are called."""
    teacher = tiny.teacher_of(config, 'mmseg', **options)
    teacher['config']['train_dataloader'] = dict(dataset=dict(metainfo=dict(classes=names)))
    return teacher


def saved(folder, config, meta):
    """Return a teacher whose checkpoint says what its classes are called."""
    model = tiny.build(config, scope='mmseg')
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / 'teacher.pth')
    return tiny.teacher_of(config, 'mmseg', checkpoint=str(folder / 'teacher.pth'))


@pytest.mark.parametrize('kind', ['CWD', 'PixelWise', 'Holistic'])
def test_other_classes_need_a_class_map(kind):
    expected = (
        r'^objectives.it: the student has 5 classes and the teacher 7; .* teacher.class_map, one name or index for'
    )
    with pytest.raises(ValueError, match=expected):
        run(objective(kind), pspnet(), pspnet(classes=7))


@pytest.mark.parametrize('config', [objective('PairWise'), objective('CWD', compare='feature')], ids=['pairs', 'cwd'])
def test_features_need_no_common_classes(config):
    _, losses, _, _ = run(config, pspnet(), pspnet(classes=7))
    assert losses['distill.it.loss'] > 0


@pytest.mark.parametrize('kind', ['CWD', 'PixelWise'])
def test_a_class_map_selects_and_orders_by_index(kind):
    teacher = tiny.teacher_of(pspnet(width=12, classes=7), 'mmseg', class_map=[6, 2, 0, 1, 5])
    _, losses, own, other = run(objective(kind), pspnet(), teacher)
    columns = [other['logits'][:, index] for index in (6, 2, 0, 1, 5)]
    expected = LOSSES[kind][1](own['logits'], torch.stack(columns, dim=1))
    assert losses['distill.it.loss'].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize('source', ['config', 'dataset_meta', 'CLASSES'])
def test_a_class_map_by_name(source, tmp_path):
    names = ('sky', 'car', 'road', 'bus', 'person', 'tree')
    meta = dict(dataset_meta=dict(dataset_meta=dict(classes=names)), CLASSES=dict(CLASSES=names))
    config = pspnet(width=12, classes=6)
    teacher = named(config, names) if source == 'config' else saved(tmp_path, config, meta[source])
    teacher['class_map'] = list(NAMES)
    model, losses, own, other = run(objective('PixelWise'), pspnet(), teacher)
    assert model.teachers['teacher'].class_map == [2, 1, 5, 0, 4]
    expected = pixel_wise_divergence(own['logits'], other['logits'][:, [2, 1, 5, 0, 4]])
    assert losses['distill.it.loss'].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_checkpoint_knows_better_than_the_config(tmp_path):
    teacher = saved(tmp_path, pspnet(), dict(dataset_meta=dict(classes=NAMES)))
    teacher['config']['train_dataloader'] = dict(dataset=dict(metainfo=dict(classes=tuple('abcde'))))
    model, *_ = run(objective('PixelWise'), pspnet(), teacher)
    assert model.teachers['teacher'].classes == NAMES


@pytest.mark.parametrize(
    'names, order, expected',
    [
        (NAMES, ['road', 'bus'], r"^teacher.class_map: the teacher has no class 'bus'; they are road, car, tree, sky"),
        (None, ['road'], r"^teacher.class_map: the teacher has no class 'road'; its names are not known, use indices"),
        (NAMES, [0, 1, 2, 3, 5], r'^objectives.it: teacher.class_map must name classes in 0..4, got \[0, 1, 2, 3, 5\]'),
        (NAMES, [0, 1, 2, -1, 4], r'^teacher.class_map must name each class once, by name or by index from 0, got'),
        (NAMES, [0, 1], r'^objectives.it: the student has 5 classes and the teacher 2'),
    ],
)
def test_class_maps_that_do_not_fit(names, order, expected):
    teacher = tiny.teacher_of(pspnet(), 'mmseg') if names is None else named(pspnet(), names)
    with pytest.raises(ValueError, match=expected):
        run(objective('PixelWise'), pspnet(), dict(teacher, class_map=order))


def in_a_run(hub, names):
    hub.update_info('iter', 0)
    hub.update_info('max_iters', 10)
    hub.update_info('dataset_meta', dict(classes=names))


SWAPPED = ('road', 'tree', 'car', 'sky', 'person')


@pytest.mark.parametrize('kind', ['CWD', 'PixelWise'])
def test_classes_of_other_names_are_refused_before_the_first_step(hub, kind):
    in_a_run(hub, NAMES)
    expected = (
        r"^objectives.it: the student's classes are not those of the teacher \('car' is 'tree' there\); .* "
        'teacher.class_map, one name or index for each of road, car, tree, sky, person$'
    )
    with pytest.raises(ValueError, match=expected):
        run(objective(kind), pspnet(), named(pspnet(), SWAPPED))


@pytest.mark.parametrize(
    'config, theirs, order',
    [
        (objective('PixelWise'), NAMES, None),
        (objective('PixelWise'), tuple(name.upper() for name in NAMES), None),
        (objective('PixelWise'), SWAPPED, [0, 2, 1, 3, 4]),
        (objective('PairWise'), SWAPPED, None),
        (objective('CWD', compare='feature'), SWAPPED, None),
    ],
    ids=['equal', 'case', 'mapped', 'pairs', 'features'],
)
def test_classes_that_agree_or_do_not_matter(hub, config, theirs, order):
    in_a_run(hub, NAMES)
    _, losses, _, _ = run(config, pspnet(), named(pspnet(width=12), theirs, class_map=order))
    assert losses['distill.it.loss'] > 0


def test_without_names_nothing_is_checked(hub):
    hub.update_info('max_iters', 10)
    _, losses, _, _ = run(objective('PixelWise'), pspnet(), named(pspnet(width=12), SWAPPED))
    assert losses['distill.it.loss'] > 0


# --- what does not fit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'config, expected',
    [
        (
            objective('CWD', on='neck'),
            r"^objectives.it.on must be one of 'decode_head', 'auxiliary_head', 'semantic_head', 'bbox_head', got 'neck'",
        ),
        (objective('CWD', resize='both'), r"^objectives.it.resize must be 'student' or 'teacher', got 'both'"),
        (objective('CWD', compare='maps'), r"^objectives.it.compare must be 'logits' or 'feature', got 'maps'"),
    ],
)
def test_options_that_do_not_exist(config, expected):
    with pytest.raises(ValueError, match=expected):
        run(config, pspnet(), pspnet())


def test_a_teacher_without_a_classifier_of_a_map():
    with pytest.raises(ValueError, match=r'^objectives.it: teacher.decode_head is a SegmenterMaskTransformerHead'):
        run(objective('PixelWise'), pspnet(), segmentors.segmenter())


def test_a_head_that_pools_over_a_large_window_can_learn():
    data = tiny.segmentation_data(size=(416, 416))
    _, losses, own, other = run(objective('PairWise', pool_scale=0.5), segmentors.lraspp(), segmentors.lraspp(), data)
    expected = pair_wise_similarity(own['feature'], other['feature'], pool_scale=0.5)
    assert losses['distill.it.loss'].item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_detector_has_no_pixels():
    with pytest.raises(ValueError, match=r'^objectives.it: .*segmentors'):
        tiny.distiller(tiny.single_stage('retinanet'), tiny.faster_rcnn(), dict(it=objective('PixelWise')))
