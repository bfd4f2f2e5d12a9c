"""A teacher runs only what is listened to, speaks about the student's part of the image, and gives plain float32."""

import importlib
import sys

import pytest
import torch

from kddense.exchange import Question, RoISample
from kddense.views import DenseHeadView, SegmentorView, TwoStageView, build_view

from ..helpers import tiny

DETECTOR_PARTS = ['backbone', 'neck', 'rpn_head', 'roi_head.bbox_head', 'roi_head.mask_head', 'roi_head']


@pytest.fixture(scope='module')
def mask_rcnn():
    return tiny.build(tiny.mask_rcnn()).eval()


@pytest.fixture
def ran(monkeypatch):
    """Return a function that notes which parts of a model run, by any method."""

    def watch(model, parts):
        noted = []
        for name in parts:
            part = model.get_submodule(name)
            for method in ('forward', 'loss', 'predict', 'loss_and_predict', '_bbox_forward', '_mask_forward'):
                if hasattr(part, method):
                    monkeypatch.setattr(part, method, noting(getattr(part, method), name, noted))
        return noted

    def noting(original, name, noted):
        def noted_call(*args, **kwargs):
            noted.append(name)
            return original(*args, **kwargs)

        return noted_call

    return watch


def roi_question(taps=(), opinions=(), count=3):
    rois = torch.tensor([[0.0, 4.0, 4.0, 40.0, 44.0]]).repeat(count, 1)
    nobody = torch.zeros(0, dtype=torch.long)
    sample = RoISample(rois, nobody, nobody, torch.zeros(0, 4))
    return Question(frozenset(taps), {'roi': [sample]}, frozenset(opinions))


@pytest.mark.parametrize(
    'question, expected',
    [
        (Question(frozenset({'backbone'})), {'backbone'}),
        (Question(frozenset({'backbone.layer2:copy'})), {'backbone'}),
        (Question(frozenset({'neck'})), {'backbone', 'neck'}),
        (Question(frozenset({'neck.fpn_convs.0', 'backbone'})), {'backbone', 'neck'}),
        (Question(frozenset({'rpn_head'})), {'backbone', 'neck', 'rpn_head'}),
        (roi_question(opinions=['roi']), {'backbone', 'neck', 'roi_head.bbox_head', 'roi_head'}),
        (roi_question(['roi_head.bbox_head:copy']), {'backbone', 'neck', 'roi_head.bbox_head', 'roi_head'}),
    ],
    ids=lambda value: '+'.join(sorted(value)) if isinstance(value, set) else '',
)
def test_only_what_is_listened_to_runs(mask_rcnn, ran, question, expected):
    noted = ran(mask_rcnn, DETECTOR_PARTS)
    build_view(mask_rcnn, 'teacher').answer(question, torch.zeros(1, 3, 64, 64))
    assert set(noted) == expected
    assert len(noted) == len(set(noted)), 'each part runs once'


def test_a_whole_step_runs_no_nms_no_mask_head_and_no_loss_in_the_teacher(monkeypatch):
    chen = {
        name: dict(type=f'kddense.{kind}')
        for name, kind in dict(rpn='ChenRPNObjective', roi='ChenRoIObjective', hint='HintObjective').items()
    }
    model = tiny.distiller(tiny.faster_rcnn(), tiny.mask_rcnn(), chen)
    teacher = model.teachers['teacher']
    rpn_head = importlib.import_module('mmdet.models.dense_heads.rpn_head')
    multiclass = importlib.import_module('mmdet.models.layers.bbox_nms')
    answer = teacher.answer

    def refuse(*args, **kwargs):
        raise AssertionError('the teacher has no business here')

    def guarded(*args, **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(sys.modules['mmcv.ops.nms'], 'nms', refuse)
            patch.setattr(sys.modules['mmcv.ops.nms'].NMSop, 'apply', refuse)
            patch.setattr(rpn_head, 'batched_nms', refuse)
            patch.setattr(multiclass, 'batched_nms', refuse)
            for owner, names in [
                (teacher.model.rpn_head, ['predict', 'loss', 'predict_by_feat', 'loss_by_feat', 'get_targets']),
                (teacher.model.roi_head, ['predict', 'loss', '_mask_forward', 'bbox_loss']),
                (teacher.model.roi_head.mask_head, ['forward', 'loss_and_target']),
                (teacher.model, ['loss', 'predict']),
            ]:
                for name in names:
                    patch.setattr(owner, name, refuse)
            return answer(*args, **kwargs)

    monkeypatch.setattr(teacher, 'answer', guarded)
    losses = tiny.step(model, tiny.detection_data())
    assert {name for name in losses if name.startswith('distill')} == {
        'distill.rpn.loss_cls',
        'distill.rpn.loss_bbox',
        'distill.roi.loss_cls',
        'distill.roi.loss_bbox',
        'distill.hint.loss',
    }


def test_segmentor_parts(ran):
    model = tiny.build(tiny.segmentor('pspnet_r50-d8'), scope='mmseg').eval()
    view = build_view(model, 'teacher')
    assert isinstance(view, SegmentorView)
    noted = ran(model, ['backbone', 'decode_head', 'auxiliary_head'])
    view.answer(Question(frozenset({'decode_head'})), torch.zeros(1, 3, 64, 64))
    assert noted == ['backbone', 'decode_head']
    noted.clear()
    view.answer(Question(frozenset({'auxiliary_head', 'backbone.layer4'})), torch.zeros(1, 3, 64, 64))
    assert noted == ['backbone', 'auxiliary_head']


def test_the_stages_of_a_cascaded_segmentor_feed_each_other():
    model = tiny.build(tiny.segmentor('ocrnet_r50-d8'), scope='mmseg').eval()
    images = torch.randn(1, 3, 64, 64)
    answer = build_view(model, 'teacher').answer(Question(frozenset({'decode_head.0', 'decode_head.1'})), images)
    with torch.no_grad():
        features = model.extract_feat(images)
        first = model.decode_head[0](features)
        second = model.decode_head[1](features, first)
    torch.testing.assert_close(answer.taps['decode_head.0'], first)
    torch.testing.assert_close(answer.taps['decode_head.1'], second)


def test_several_auxiliary_heads():
    config = tiny.segmentor('pspnet_r50-d8')
    config.auxiliary_head = [config.auxiliary_head, dict(config.auxiliary_head, in_index=1, in_channels=16)]
    model = tiny.build(config, scope='mmseg').eval()
    probed = build_view(model, 'student').probe(['auxiliary_head.0', 'auxiliary_head.1'])
    assert [value[0].shape[1] for _, value in sorted(probed.items())] == [5, 5]


@pytest.mark.parametrize('covered', [(64, 96), (96, 128), (32, 160), (96, 160)])
def test_maps_are_cut_to_what_the_student_sees(mask_rcnn, covered):
    images = torch.zeros(1, 3, 128, 192)
    view = build_view(mask_rcnn, 'teacher')
    cut = view.answer(Question(frozenset({'backbone', 'neck'})), images, covered).taps
    alone = view.answer(Question(frozenset({'backbone', 'neck'})), images[..., : covered[0], : covered[1]]).taps
    for tap in ('backbone', 'neck'):
        assert [level.shape for level in cut[tap]] == [level.shape for level in alone[tap]]
        assert all(level.is_contiguous() for level in cut[tap])


def test_features_of_rois_are_never_cut(mask_rcnn):
    tap = 'roi_head.bbox_roi_extractor'
    view = build_view(mask_rcnn, 'teacher')
    answer = view.answer(roi_question([tap, 'neck']), torch.zeros(1, 3, 64, 128), (64, 96))
    assert answer.taps[tap].shape == (3, 16, 7, 7)
    assert answer.taps['neck'][0].shape == (1, 16, 16, 24)


def test_probing_leaves_the_model_as_it_was():
    model = tiny.build(tiny.mask_rcnn()).train()
    model.roi_head.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    probed = build_view(model, 'student').probe(['neck', 'roi_head.bbox_head.shared_fcs.0:copy'])
    assert [level.shape[1] for level in probed['neck']] == [16] * 5
    assert probed['roi_head.bbox_head.shared_fcs.0:copy'][0].shape == (1, 32)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any('forward' in vars(module) for module in model.modules())


def test_families():
    assert isinstance(build_view(tiny.build(tiny.cascade_rcnn()), 'x'), TwoStageView)
    assert isinstance(build_view(tiny.build(tiny.single_stage('retinanet')), 'x'), DenseHeadView)
    assert build_view(torch.nn.Conv2d(3, 6, 1), 'x').kinds == frozenset()


def test_any_model_shows_its_taps():
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 6, 1)

        def forward(self, inputs, data_samples=None, mode='tensor'):
            assert mode == 'tensor'
            return self.layer(inputs)

    assert build_view(Plain(), 'teacher').probe(['layer'])['layer'][0].shape == (1, 6, 64, 64)


def test_no_roi_at_all_is_an_opinion_on_none():
    model = tiny.build(tiny.faster_rcnn())
    nothing = torch.zeros(0, dtype=torch.long)
    sample = RoISample(torch.zeros(0, 5), nothing, nothing, torch.zeros(0, 4))
    question = Question(frozenset(), {'roi': [sample]}, frozenset({'roi'}))
    (opinion,) = build_view(model, 'teacher').answer(question, torch.zeros(1, 3, 64, 64)).opinions['roi']
    assert opinion.logits.shape == (0, 4)
    assert opinion.deltas.shape == (0, 4)


def test_float16_weights_are_probed_on_a_cpu_and_stay_what_they_were():
    model = tiny.build(tiny.faster_rcnn()).half()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert build_view(model, 'teacher').probe(['neck'])['neck'][0].dtype == torch.float32
    after = model.state_dict()
    assert all(after[key].dtype == value.dtype and torch.equal(after[key], value) for key, value in before.items())
