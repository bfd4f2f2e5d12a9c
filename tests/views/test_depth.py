"""What a depth estimator shows, as a student and as a teacher, and which pairs can be compared."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.structures import PixelData

from kddense.exchange import Question
from kddense.views import DepthView, SegmentorView, ViewError, build_view, check_depth_scale

from ..helpers import tiny
from ..helpers.depth_estimators import BINS, depth_data, depth_estimator
from ..helpers.segmentors import listen


def estimator(*changes, **options):
    return tiny.build(depth_estimator(*changes, **options), scope='mmseg')


def shown_by(model, data, kind='pixels'):
    """Run a student's loss and return its sample and opinion, and what its own layers showed."""
    view = build_view(model, 'student')
    heard = listen(model.decode_head.decoder)
    prepared = model.data_preprocessor(copy.deepcopy(data), True)
    with view.listening([], [kind]) as recording:
        model(**prepared, mode='loss')
    answer = view.read(recording, [], [kind])
    return (
        answer.samples[kind][0],
        answer.opinions[kind][0],
        {key: values[0] for key, values in heard.items()},
        prepared,
    )


def test_depth_estimators_are_their_own_family():
    assert type(build_view(estimator(), 'student')) is DepthView
    assert type(build_view(tiny.build(tiny.segmentor('pspnet_r50-d8'), scope='mmseg'), 'student')) is SegmentorView


@pytest.mark.parametrize('changes', [{}, BINS, {'decode_head.target': 'linear'}])
def test_a_student_shows_what_its_layers_gave(changes):
    model = estimator(changes)

    _, opinion, heard, _ = shown_by(model, depth_data())

    assert opinion.logits is heard['logits']
    assert opinion.feature is heard['feature']
    torch.testing.assert_close(opinion.depth, model.decode_head.to_depth(heard['logits']))
    assert opinion.depth.shape == (2, 1, 16, 16)
    assert 0 <= opinion.position.min() <= opinion.position.max() <= 1


def test_the_position_on_the_scale():
    model = estimator({'decode_head.min_depth': 0.5, 'decode_head.max_depth': 8.0})
    _, opinion, _, _ = shown_by(model, depth_data())

    torch.testing.assert_close(0.5 * 16**opinion.position, opinion.depth)


def test_the_sample_is_the_known_depth():
    data = depth_data(size=(48, 60))
    data['data_samples'][0].gt_depth_map.data[0, 0, :3] = torch.tensor([20.0, 0.01, 0.0])

    sample, _, _, prepared = shown_by(estimator(), data)

    assert sample.images is prepared['inputs']
    assert sample.depth.shape == (2, 64, 64)
    truth = data['data_samples'][0].gt_depth_map.data[0].clone()
    truth[0, :3] = 0  # beyond the range on either side, and unknown
    torch.testing.assert_close(sample.depth[0, :48, :60], truth)
    assert not sample.depth[:, 48:].any()
    assert not sample.depth[:, :, 60:].any()
    assert torch.equal(sample.valid, sample.depth > 0)
    assert sample.depth_at((16, 16)).shape == (2, 1, 16, 16)
    assert sample.depth_at((16, 16))[0, 0, 3, 5] == sample.depth[0, 14, 22]


def test_a_teacher_answers_with_the_same():
    model = estimator().eval()
    view = build_view(model, 'teacher')
    images = torch.randn(2, 3, 64, 64)
    heard = listen(model.decode_head.decoder)

    with torch.no_grad():
        answer = view.answer(Question(opinions=frozenset({'pixels'})), images)
        expected = model.decode_head(model.extract_feat(images))

    (opinion,) = answer.opinions['pixels']
    torch.testing.assert_close(opinion.depth, expected)
    torch.testing.assert_close(opinion.feature, heard['feature'][0])


def test_a_teacher_of_wider_padding_is_cut_to_the_students_image():
    model = estimator().eval()
    view = build_view(model, 'teacher')

    with torch.no_grad():
        answer = view.answer(Question(opinions=frozenset({'pixels'})), torch.randn(1, 3, 64, 96), covered=(64, 64))

    assert answer.opinions['pixels'][0].depth.shape == (1, 1, 16, 16)


def test_unlabelled_images_are_valid_and_of_unknown_depth():
    data = depth_data(unknown=0.0)
    sample = data['data_samples'][1]
    sample.set_metainfo(dict(unlabelled=True))
    del sample.gt_depth_map
    model = estimator()
    view = build_view(model, 'student')
    prepared = model.data_preprocessor(copy.deepcopy(data), True)

    with view.without_labels(prepared['data_samples']), view.listening([], ['pixels']) as recording:
        losses = model(**prepared, mode='loss')
    (shown,) = view.read(recording, [], ['pixels']).samples['pixels']

    assert shown.valid.all()
    assert (shown.depth[0] > 0).all()
    assert not shown.depth[1].any()
    alone = model(prepared['inputs'][:1], prepared['data_samples'][:1], mode='loss')
    assert alone.keys() == losses.keys()
    assert model.decode_head.loss_by_feat.__func__ is type(model.decode_head).loss_by_feat


def test_auxiliary_heads():
    auxiliary = dict(
        type='kddense.DepthHead',
        decoder=dict(type='FCNHead', in_channels=16, in_index=1, channels=8, num_convs=1),
    )
    model = estimator({'auxiliary_head': [auxiliary, auxiliary]})

    view = build_view(model, 'student')

    assert [opinion.feature.shape[1] for opinion in view.probe_opinions('auxiliary')] == [8, 8]


@pytest.mark.parametrize(
    ('student', 'teacher', 'bins', 'message'),
    [
        (
            {},
            {'decode_head.max_depth': 80.0},
            False,
            'decode_head.max_depth is 10.0 in the student and 80.0 in the teacher',
        ),
        (
            {'decode_head.min_depth': 0.5},
            {},
            False,
            'decode_head.min_depth is 0.5 in the student and 0.1 in the teacher',
        ),
        (BINS, {**BINS, 'decode_head.num_bins': 20}, True, 'decode_head.num_bins is 12 in the student and 20'),
        (BINS, {}, True, "teacher.decode_head.target is 'log': only 'bins' has probabilities to compare"),
        ({}, BINS, True, "student.decode_head.target is 'log': only 'bins' has probabilities to compare"),
    ],
)
def test_other_scales_are_refused(student, teacher, bins, message):
    views = build_view(estimator(student), 'student'), build_view(estimator(teacher), 'teacher')

    with pytest.raises(ViewError, match=message):
        check_depth_scale(*views, bins=bins)


def test_regression_and_bins_show_the_same_depth():
    check_depth_scale(build_view(estimator(), 'student'), build_view(estimator(BINS), 'teacher'))


def test_a_segmentor_is_no_depth_estimator():
    segmentor = build_view(tiny.build(tiny.segmentor('pspnet_r50-d8'), scope='mmseg'), 'teacher')

    with pytest.raises(ViewError, match=r'teacher \(EncoderDecoder\) does not estimate depth, the other does'):
        check_depth_scale(build_view(estimator(), 'student'), segmentor)


def test_heads_of_others_and_class_maps_are_refused():
    model = estimator()
    with pytest.raises(ViewError, match=r'teacher.class_map: a depth estimator has no classes, remove it'):
        build_view(model, 'teacher', class_map=[0]).check('pixels')
    model.decode_head = model.decode_head.decoder
    with pytest.raises(ViewError, match=r'student.decode_head must be a kddense.DepthHead, found SegformerHead'):
        build_view(model, 'student').check('pixels')


def test_batches_without_any_known_depth():
    data = depth_data()
    for sample in data['data_samples']:
        sample.gt_depth_map = PixelData(data=torch.zeros(1, 64, 64))

    sample, _, _, _ = shown_by(estimator(), data)

    assert not sample.valid.any()
