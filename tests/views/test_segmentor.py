"""What the view of a segmentor shows is what the head's own layers compute, in training and as a teacher."""

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from kddense.exchange import MapSample, Question
from kddense.views import ViewError, build_view

from ..helpers import segmentors, tiny

CONFIGS = dict(
    pspnet=lambda: tiny.segmentor('pspnet_r50-d8'),
    deeplabv3=lambda: tiny.segmentor('deeplabv3_r50-d8'),
    fast_scnn=segmentors.fast_scnn,
    segformer=segmentors.segformer,
    upernet=segmentors.upernet,
    ocrnet=lambda: tiny.segmentor('ocrnet_r50-d8'),
    encnet=segmentors.encnet,
    lraspp=segmentors.lraspp,
)
CASCADES = dict(ocrnet=CONFIGS['ocrnet'], pointrend=segmentors.pointrend)
DROPS = ['pspnet', 'segformer', 'ocrnet']


def build(config, seed=0):
    model = tiny.build(config() if callable(config) else config, seed, scope='mmseg')
    tiny.shake(model, seed=seed + 1)
    return model


def data_for(name, **options):
    return tiny.segmentation_data(size=(416, 416) if name == 'lraspp' else (64, 64), **options)


def asked(*kinds):
    return Question(opinions=frozenset(kinds))


def study(model, data, kinds=('pixels',)):
    """Return what the view reads while ``model`` computes its own losses as a student."""
    view = build_view(model, 'student')
    prepared = model.data_preprocessor(data, True)
    with view.listening((), kinds) as recording:
        model.train()(**prepared, mode='loss')
    return view.read(recording, (), kinds)


# --- logits and features ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', CONFIGS)
def test_a_teacher_says_what_its_head_returns(name):
    model = build(CONFIGS[name]).eval()
    images = model.data_preprocessor(data_for(name), False)['inputs']
    images = torch.stack(images) if isinstance(images, list) else images
    (opinion,) = build_view(model, 'teacher').answer(asked('pixels'), images).opinions['pixels']
    with torch.no_grad():
        features = model.extract_feat(images)
        if name == 'ocrnet':
            expected = model.decode_head[1](features, model.decode_head[0](features))
        else:
            expected = model.decode_head(features)
        expected = expected[0] if isinstance(expected, tuple) else expected
        classified = segmentors.last_head(model).conv_seg(opinion.feature)
    assert opinion.logits.shape[:2] == (2, 5)
    assert torch.equal(opinion.logits, expected)
    torch.testing.assert_close(classified, opinion.logits)


@pytest.mark.parametrize('name', CONFIGS)
def test_a_student_says_what_its_head_computed_for_its_loss(name):
    model = build(CONFIGS[name])
    heard = segmentors.listen(segmentors.last_head(model))
    (opinion,) = study(model, data_for(name)).opinions['pixels']
    assert [opinion.logits is one for one in heard['logits']] == [True]
    assert [opinion.feature is one for one in heard['feature']] == [True]
    assert opinion.logits.requires_grad
    assert opinion.feature.requires_grad


@pytest.mark.parametrize('name', DROPS)
def test_without_dropout_a_students_logits_follow_from_its_feature(name):
    model = build(CONFIGS[name])
    head = segmentors.last_head(model)
    head.dropout.p = 0.0
    (opinion,) = study(model, data_for(name)).opinions['pixels']
    assert torch.equal(head.conv_seg(opinion.feature), opinion.logits)


@pytest.mark.parametrize('name', DROPS)
def test_the_feature_is_taken_before_the_dropout(name):
    model = build(CONFIGS[name])
    head = segmentors.last_head(model)
    head.dropout.p = 1.0
    (opinion,) = study(model, data_for(name)).opinions['pixels']
    assert opinion.feature.abs().sum() > 0
    assert torch.equal(opinion.logits, head.conv_seg.bias.view(1, -1, 1, 1).expand_as(opinion.logits))


def test_a_teacher_of_larger_divisor_is_cut_to_the_students_image():
    model = build(CONFIGS['pspnet']).eval()
    (opinion,) = (
        build_view(model, 'teacher').answer(asked('pixels'), torch.rand(1, 3, 64, 96), (64, 72)).opinions['pixels']
    )
    assert opinion.logits.shape == (1, 5, 8, 9)
    assert opinion.feature.shape == (1, 16, 8, 9)


def test_a_head_that_pools_over_a_large_window_is_probed_with_a_larger_image():
    view = build_view(build(CONFIGS['lraspp']), 'student')
    (opinion,) = view.probe_opinions('pixels')
    assert opinion.logits.shape[:2] == (1, 5)
    assert opinion.feature.shape[:2] == (1, 16)
    assert view.probe(['decode_head'])['decode_head'][0].shape[:2] == (1, 5)


# --- auxiliary heads ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', ['pspnet', 'fast_scnn'])
def test_auxiliary_heads_in_their_order(name):
    model = build(CONFIGS[name])
    heads = model.auxiliary_head if name == 'fast_scnn' else [model.auxiliary_head]
    heard = [segmentors.listen(head) for head in heads]
    answer = study(model, data_for(name), ['auxiliary', 'pixels'])
    assert len(answer.opinions['auxiliary']) == len(answer.samples['auxiliary']) == len(heads)
    for opinion, own in zip(answer.opinions['auxiliary'], heard, strict=True):
        assert opinion.logits is own['logits'][0]
        assert opinion.feature is own['feature'][0]
    model.eval()
    images = torch.rand(2, 3, 64, 64)
    taught = build_view(model, 'teacher').answer(asked('auxiliary'), images).opinions['auxiliary']
    with torch.no_grad():
        features = model.extract_feat(images)
        for opinion, head in zip(taught, heads, strict=True):
            assert torch.equal(opinion.logits, head(features))


@pytest.mark.parametrize('name', ['segformer', 'pointrend'])
def test_no_auxiliary_head(name):
    model = build({**CONFIGS, **CASCADES}[name])
    with pytest.raises(ViewError, match=r'^student \(\w+\) has no auxiliary head'):
        build_view(model, 'student').check('auxiliary')


@pytest.mark.parametrize('kind', ['pixels', 'auxiliary'])
def test_a_teacher_runs_only_the_heads_that_are_asked_for_and_each_once(kind):
    model = build(CONFIGS['pspnet']).eval()
    heard = dict(pixels=segmentors.listen(model.decode_head), auxiliary=segmentors.listen(model.auxiliary_head))
    build_view(model, 'teacher').answer(asked(kind), torch.rand(1, 3, 64, 64))
    assert {name: len(own['logits']) for name, own in heard.items()} == {**dict(pixels=0, auxiliary=0), kind: 1}


# --- cascades -----------------------------------------------------------------------------------------------------------


def test_of_a_cascade_the_last_stage_speaks():
    model = build(CASCADES['ocrnet'])
    heard = [segmentors.listen(head) for head in model.decode_head]
    (opinion,) = study(model, tiny.segmentation_data()).opinions['pixels']
    assert [len(own['logits']) for own in heard] == [2, 1]  # mmseg runs the first for its loss, and for the next
    assert opinion.logits is heard[1]['logits'][0]
    for own in heard:
        own['logits'].clear()
    build_view(model.eval(), 'teacher').answer(asked('pixels'), torch.rand(1, 3, 64, 64))
    assert [len(own['logits']) for own in heard] == [1, 1]


def test_of_pointrend_the_stage_before_the_points_speaks():
    model = build(CASCADES['pointrend'])
    heard = segmentors.listen(model.decode_head[0])
    (opinion,) = study(model, tiny.segmentation_data()).opinions['pixels']
    assert len(heard['logits']) == 2
    assert opinion.logits is heard['logits'][0]  # the one that the loss is computed from
    assert opinion.feature is heard['feature'][0]
    images = torch.rand(1, 3, 64, 64)
    (taught,) = build_view(model.eval(), 'teacher').answer(asked('pixels'), images).opinions['pixels']
    with torch.no_grad():
        assert torch.equal(taught.logits, model.decode_head[0](model.extract_feat(images)))


# --- heads that cannot speak --------------------------------------------------------------------------------------------


def test_segmenter_has_no_classifier_of_a_map():
    model = build(segmentors.segmenter)
    with pytest.raises(ViewError, match=r'^student.decode_head is a SegmenterMaskTransformerHead, which .*conv_seg'):
        build_view(model, 'student').check('pixels')


def test_a_head_of_masks_gives_no_scores_per_pixel():
    class MaskFormerHead(torch.nn.Module):
        pass

    model = build(CONFIGS['pspnet'])
    model.decode_head = MaskFormerHead()
    with pytest.raises(ViewError, match=r'^teacher.decode_head is a MaskFormerHead, which gives no class scores per'):
        build_view(model, 'teacher').check('pixels')


@pytest.mark.parametrize('kind', ['rpn', 'roi'])
def test_segmentors_have_no_boxes(kind):
    with pytest.raises(ViewError, match=r'^student \(EncoderDecoder\) has no .*; only two-stage detectors have one'):
        build_view(build(CONFIGS['pspnet']), 'student').check(kind)


def test_detectors_have_no_pixels():
    with pytest.raises(ViewError, match='only segmentors have one|must be an|bbox_head'):
        build_view(tiny.build(tiny.single_stage('retinanet')), 'student').check('pixels')


# --- which pixels are valid ---------------------------------------------------------------------------------------------


def labelled(labels, shape):
    """Return one image of ``shape`` with these labels, as the dataloader gives it."""
    from mmseg.structures import SegDataSample

    sample = SegDataSample(
        metainfo=dict(img_shape=shape, ori_shape=shape), gt_sem_seg=PixelData(data=torch.from_numpy(labels)[None])
    )
    return dict(inputs=[tiny.image(*shape)], data_samples=[sample])


@pytest.mark.parametrize('ignored', [255, 3])
def test_pixels_of_the_ignore_index_are_not_valid(ignored):
    labels = np.random.RandomState(0).choice([0, 1, 2, ignored], (2, 64, 64))
    one, other = (labelled(own, (64, 64)) for own in labels)
    model = build(tiny.segmentor('pspnet_r50-d8', {'decode_head.ignore_index': ignored}))
    (sample,) = study(model, {key: one[key] + other[key] for key in one}).samples['pixels']
    assert np.array_equal(sample.valid.numpy(), labels != ignored)


def test_padding_is_not_valid():
    one, other = (
        labelled(np.zeros(shape, 'int64'), shape) for shape in ((48, 40), (64, 96))
    )  # padded to (64, 96) with labels of 255
    data = {key: one[key] + other[key] for key in one}
    (sample,) = study(build(CONFIGS['pspnet']), data).samples['pixels']
    assert sample.images.shape == (2, 3, 64, 96)
    expected = np.zeros((2, 64, 96), bool)
    expected[0, :48, :40] = True
    expected[1] = True
    assert np.array_equal(sample.valid.numpy(), expected)


def test_padding_of_an_unlabelled_image_is_not_valid_and_all_else_is():
    data = tiny.segmentation_data()
    unlabelled = labelled(np.full((48, 40), 255), (48, 40))
    data = {key: data[key] + unlabelled[key] for key in data}
    data['data_samples'][2].set_metainfo(dict(unlabelled=True))
    del data['data_samples'][2].gt_sem_seg
    model = build(CONFIGS['pspnet'])
    view = build_view(model, 'student')
    prepared = model.data_preprocessor(data, True)
    with (
        view.without_labels(prepared['data_samples']),
        view.listening((), ['pixels']) as recording,
    ):
        model.train()(**prepared, mode='loss')
    (sample,) = view.read(recording, (), ['pixels']).samples['pixels']
    assert sample.valid[:2].all()
    assert sample.valid[2, :48, :40].all()
    assert sample.valid[2].sum() == 48 * 40


def test_a_cell_is_valid_if_the_pixel_in_its_middle_is():
    valid = torch.rand(2, 64, 96, generator=torch.Generator().manual_seed(0)) > 0.4
    cells = MapSample(torch.zeros(2, 3, 64, 96), valid).valid_at((8, 12))
    expected = np.zeros((2, 8, 12), bool)
    for image, row, column in np.ndindex(2, 8, 12):
        expected[image, row, column] = valid[image, 8 * row + 4, 8 * column + 4]
    assert cells.dtype == torch.bool
    assert np.array_equal(cells.numpy(), expected)


def test_at_full_size_all_cells_are_the_pixels():
    valid = torch.rand(1, 9, 7, generator=torch.Generator().manual_seed(0)) > 0.4
    assert torch.equal(MapSample(torch.zeros(1, 3, 9, 7), valid).valid_at((9, 7)), valid)


# --- classes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name, sigmoid', [('fast_scnn', True), ('pspnet', False), ('ocrnet', False)])
def test_whether_the_classes_exclude_each_other(name, sigmoid):
    assert build_view(build(CONFIGS[name]), 'student').is_sigmoid('pixels') is sigmoid


CE = dict(type='CrossEntropyLoss')
BCE = dict(type='CrossEntropyLoss', use_sigmoid=True)
DICE = dict(type='DiceLoss')


@pytest.mark.parametrize(
    'losses, sigmoid',
    [
        ([CE, DICE], False),
        ([DICE, dict(type='OhemCrossEntropy')], False),
        ([CE, BCE], False),
        ([BCE, DICE], True),
        ([DICE], True),
        ([dict(DICE, use_sigmoid=False)], False),
        ([dict(type='FocalLoss'), dict(type='LovaszLoss', reduction='none')], False),
        ([dict(type='FocalLoss'), DICE], True),
        ([dict(type='TverskyLoss'), DICE], False),
        ([dict(type='LovaszLoss', loss_type='binary', reduction='none')], True),
        ([BCE, dict(CE, loss_weight=0.0)], True),
        ([dict(DICE, activate=False), CE], False),
    ],
    ids=str,
)
def test_several_scores_are_sigmoid_classes_if_no_loss_reads_them_by_a_softmax(losses, sigmoid):
    """mmseg predicts the largest score whatever the losses are, so what a softmax trains is compared by one."""
    named = [dict(loss, loss_name=f'loss_{index}') for index, loss in enumerate(losses)]
    for loss in named:
        if loss['type'] == 'OhemCrossEntropy':
            del loss['loss_name']
    view = build_view(build(tiny.segmentor('pspnet_r50-d8', {'auxiliary_head.loss_decode': named})), 'student')
    assert view.is_sigmoid('auxiliary') is sigmoid
    assert not view.is_sigmoid('pixels')


@pytest.mark.parametrize('loss', [BCE, dict(type='LovaszLoss', loss_type='binary', reduction='none')], ids=str)
def test_a_single_score_is_a_sigmoid_whatever_its_loss(loss):
    head = dict(num_classes=2, out_channels=1, loss_decode=dict(loss, _delete_=True))
    changes = {f'decode_head.{key}': value for key, value in head.items()}
    assert build_view(build(tiny.segmentor('pspnet_r50-d8', changes)), 'student').is_sigmoid('pixels')


@pytest.mark.parametrize('kind', ['pixels', 'auxiliary'])
def test_a_class_map_selects_and_orders_the_teachers_logits_and_no_features(kind):
    model = build(CONFIGS['fast_scnn']).eval()
    images = torch.rand(2, 3, 64, 64)
    chosen = [4, 0, 2]
    plain, mapped = (build_view(model, 'teacher', class_map=order) for order in (None, chosen))
    for one, other in zip(*(view.answer(asked(kind), images).opinions[kind] for view in (plain, mapped)), strict=True):
        expected = torch.stack([one.logits[:, index] for index in chosen], dim=1)
        assert torch.equal(other.logits, expected)
        assert torch.equal(other.feature, one.feature)


@pytest.mark.parametrize('order', [[0, 5], [-1, 0]])
def test_a_class_map_beyond_the_classes(order):
    view = build_view(build(CONFIGS['pspnet']), 'teacher', class_map=order)
    with pytest.raises(ViewError, match=r'^teacher.class_map must name classes in 0..4, got'):
        view.check('pixels')
