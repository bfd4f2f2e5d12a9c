"""What the view of a one-stage detector shows is what its own losses look at; a teacher judges the very same places."""

import inspect

import pytest
import torch

from kddense.exchange import DenseSample, Question
from kddense.views import DenseHeadView, ViewError, build_view

from ..helpers import detectors, tiny

VARIANTS = {
    **{head: lambda head=head: detectors.one_stage(head) for head in detectors.HEADS},
    'retinanet, decoded boxes': lambda: detectors.one_stage(
        'retinanet',
        {'bbox_head.reg_decoded_bbox': True, 'bbox_head.loss_bbox': dict(type='mmdet.GIoULoss', _delete_=True)},
    ),
    'retinanet, sampled': lambda: detectors.one_stage(
        'retinanet',
        {
            'bbox_head.loss_cls': dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True, _delete_=True),
            'train_cfg.sampler': dict(type='mmdet.RandomSampler', num=64, pos_fraction=0.5, _delete_=True),
            'train_cfg.sampler.add_gt_as_proposals': False,
        },
    ),
    'fcos in strides': lambda: detectors.one_stage('fcos', {'bbox_head.norm_on_bbox': True}),
    'fcos, centres': lambda: detectors.one_stage('fcos', {'bbox_head.center_sampling': True}),
    'rtmdet, own norms': lambda: detectors.one_stage(
        'rtmdet', {'bbox_head.type': 'RTMDetSepBNHead', 'bbox_head.exp_on_reg': True}
    ),
}
BATCHES = {
    'boxes': {},
    'an image without': dict(boxes=(tiny.BOXES, ())),
    'none at all': dict(boxes=((), ())),
}


def build(config, seed=0):
    model = tiny.build(config, seed)
    tiny.shake(model, seed=seed + 1)
    if hasattr(model.bbox_head, 'integral'):  # its buffer is a constant, which no training moves
        model.bbox_head.integral.project.copy_(torch.arange(17))
    return model


def study(model, data, kinds=('dense',), taps=()):
    """Return the student's own losses, what the view reads while they are computed, and the values of taps."""
    view = build_view(model, 'student')
    prepared = model.data_preprocessor(data, True)
    with view.listening(taps, kinds) as recording:
        losses = model.train()(**prepared, mode='loss')
    answer = view.read(recording, taps, kinds)
    return losses, answer, prepared['inputs']


def ask(model, images, sample=None, **options):
    samples = {} if sample is None else {'dense': [sample]}
    kinds = {'scores'} if sample is None else {'dense', 'scores'}
    view = build_view(model.eval(), 'teacher', **options)
    return view.answer(Question(frozenset(), samples, frozenset(kinds)), images).opinions


def summed(losses, name):
    value = losses[name]
    return sum(value) if isinstance(value, list) else value


def positives_per_image(sample):
    images = sample.index[sample.positive] // len(sample.priors)
    return torch.bincount(images, minlength=len(sample.ground_truth))


# --- the sample is the head's own -----------------------------------------------------------------------------------------


def own_losses(head, sample, opinion, metrics):
    """Return the head's loss of classes and of boxes, computed anew from what the view shows."""
    logits, deltas, targets = opinion.logits, opinion.deltas, sample.targets
    priors = sample.priors[sample.index[sample.positive] % len(sample.priors)]
    per_image = positives_per_image(sample).clamp(min=1).sum()  # what mmdet's samplers count
    kind = type(head).__name__
    if kind == 'RetinaHead':
        if type(head.sampler).__name__ == 'RandomSampler':
            per_image = sample.num_sampled + (positives_per_image(sample) == 0).sum()
        boxes = (deltas, targets)
        if head.reg_decoded_bbox:
            boxes = tuple(head.bbox_coder.decode(priors, one) for one in boxes)
        return head.loss_cls(logits, sample.labels, avg_factor=per_image), head.loss_bbox(*boxes, avg_factor=per_image)
    if kind == 'ATSSHead':
        ours, true = (head.bbox_coder.decode(priors, one) for one in (deltas, targets))
        centre = head.centerness_target(priors, true)
        cls = head.loss_cls(logits, sample.labels, avg_factor=per_image)
        return cls, head.loss_bbox(ours, true, weight=centre, avg_factor=centre.sum().clamp(min=1))
    ours, true = (torch.cat([-one[:, :2], one[:, 2:]], dim=1) for one in (deltas, targets))
    if kind == 'FCOSHead':
        centre = head.centerness_target(targets)
        cls = head.loss_cls(logits, sample.labels, avg_factor=max(sample.num_positive, 1))
        return cls, head.loss_bbox(ours, true, weight=centre, avg_factor=centre.sum().clamp(min=1e-6))
    from mmdet.structures.bbox import bbox_overlaps

    quality = torch.zeros(len(logits))
    if kind == 'GFLHead':
        quality[sample.positive] = bbox_overlaps(ours.detach(), true, is_aligned=True)
        sure = logits.detach().sigmoid().max(dim=1)[0][sample.positive]
        cls = head.loss_cls(logits, (sample.labels, quality), avg_factor=per_image)
        return cls, head.loss_bbox(ours, true, weight=sure, avg_factor=sure.sum().clamp(min=1))
    metrics = torch.cat(metrics, dim=1).flatten()[sample.index]
    count = metrics.sum().clamp(min=1)
    cls = head.loss_cls(logits, (sample.labels, metrics), avg_factor=count)
    return cls, head.loss_bbox(ours, true, weight=metrics[sample.positive], avg_factor=count)


@pytest.mark.parametrize('batch', BATCHES)
@pytest.mark.parametrize('variant', VARIANTS)
def test_the_heads_own_losses_follow_from_the_sample(variant, batch):
    model = build(VARIANTS[variant]())
    tap = 'bbox_head.get_targets()'
    losses, answer, _ = study(model, tiny.detection_data(**BATCHES[batch]), taps=[tap])
    (sample,), (opinion,) = answer.samples['dense'], answer.opinions['dense']
    cls, bbox = own_losses(model.bbox_head, sample, opinion, answer.taps[tap].result[-2])
    torch.testing.assert_close(cls, summed(losses, 'loss_cls'), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(bbox, summed(losses, 'loss_bbox'), rtol=1e-4, atol=1e-6)
    assert (sample.num_positive > 0) == (batch != 'none at all')
    assert len(sample.targets) == len(opinion.deltas) == sample.num_positive
    assert [len(boxes) for boxes in sample.ground_truth] == [
        len(b) for b in BATCHES[batch].get('boxes', ((0,) * 3, (0,) * 2))
    ]


@pytest.mark.parametrize('head', detectors.HEADS)
def test_places_are_numbered_image_by_image_level_by_level_row_by_row(head):
    model = build(detectors.one_stage(head))
    _, answer, _ = study(model, tiny.detection_data(), taps=['bbox_head'])
    (sample,), (opinion,) = answer.samples['dense'], answer.opinions['dense']
    scores = answer.taps['bbox_head'][0]
    anchors = scores[0].shape[1] // 3
    numbered = [
        (image, level, row, column, anchor)
        for image in range(2)
        for level, (height, width) in enumerate(sample.level_sizes)
        for row in range(height)
        for column in range(width)
        for anchor in range(anchors)
    ]
    assert len(numbered) == 2 * len(sample.priors)
    for number in range(0, len(sample.index), 7):
        image, level, row, column, anchor = numbered[sample.index[number]]
        expected = scores[level][image, 3 * anchor : 3 * anchor + 3, row, column]
        torch.testing.assert_close(opinion.logits[number], expected)
        prior, stride = sample.priors[sample.index[number] % len(sample.priors)], sample.strides[level]
        middle = (prior[:2] + prior[2:]) / 2 if len(prior) == 4 else prior
        offset = 0.5 * stride if head == 'fcos' else 0.0
        torch.testing.assert_close(middle, torch.tensor([column * stride + offset, row * stride + offset]))


def test_distances_of_a_distribution_are_its_mean():
    model = build(detectors.one_stage('gfl'))
    _, answer, _ = study(model, tiny.detection_data(), taps=['bbox_head'])
    (opinion,) = answer.opinions['dense']
    index = torch.tensor([0, 65, 171])
    logits = opinion.distributions_at(index)
    assert logits.shape == (3, 4, 17)
    first = answer.taps['bbox_head'][1][0][0, :, 0, 0].view(4, 17)
    torch.testing.assert_close(logits[0], first)
    torch.testing.assert_close(
        opinion.deltas_at(index), model.bbox_head.integral(logits.flatten(0, 1).flatten(1)).view(3, 4)
    )
    assert build_view(model, 'x').reg_max == 16


def test_heads_without_distributions_say_so():
    model = build(detectors.one_stage('fcos'))
    _, answer, _ = study(model, tiny.detection_data())
    with pytest.raises(ViewError, match=r'only heads that learn distributions of distances \(GFLHead\)'):
        answer.opinions['dense'][0].distributions_at(torch.zeros(1, dtype=torch.long))
    assert build_view(model, 'x').reg_max is None


# --- a teacher ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('variant', VARIANTS)
def test_the_student_as_its_own_teacher_says_the_same(variant):
    """In training as in evaluation, where FCOS changes its unit."""
    model = build(tiny.edit(VARIANTS[variant](), {'backbone.norm_eval': True}))
    if 'rtmdet' in variant:
        model.bbox_head = tiny.build(dict(model_without_batch_norm(variant).bbox_head, train_cfg=model.train_cfg))
    _, answer, images = study(model, tiny.detection_data(), kinds=('dense', 'scores'))
    (sample,), (own,) = answer.samples['dense'], answer.opinions['dense']
    opinions = ask(model, images, sample)
    (other,) = opinions['dense']
    torch.testing.assert_close(other.logits, own.logits.detach())
    torch.testing.assert_close(other.deltas, own.deltas.detach())
    assert len(opinions['scores']) == len(answer.opinions['scores']) == len(sample.strides)
    for ours, theirs in zip(answer.opinions['scores'], opinions['scores'], strict=True):
        torch.testing.assert_close(theirs.logits, ours.logits.detach())
        torch.testing.assert_close(theirs.feature, ours.feature.detach())


def model_without_batch_norm(variant):
    return tiny.edit(VARIANTS[variant](), {'bbox_head.norm_cfg': dict(type='GN', num_groups=4, _delete_=True)})


@pytest.mark.parametrize('head', ['retinanet', 'gfl'])
def test_what_a_teacher_pads_beyond_the_student_is_cut(head):
    model = build(detectors.one_stage(head))
    _, answer, images = study(model, tiny.detection_data())
    (sample,) = answer.samples['dense']
    wide = torch.nn.functional.pad(images, (0, 64, 0, 128))
    view = build_view(model.eval(), 'teacher')
    question = Question(frozenset({'bbox_head'}), {'dense': [sample]}, frozenset({'dense', 'scores'}))
    answer = view.answer(question, wide, tuple(images.shape[-2:]))
    (opinion,) = answer.opinions['dense']
    inside = [
        level[..., :height, :width]
        for level, (height, width) in zip(opinion.score_maps, sample.level_sizes, strict=True)
    ]
    rows = torch.cat([level.permute(0, 2, 3, 1).reshape(2, -1, 3) for level in inside], dim=1).flatten(0, 1)
    torch.testing.assert_close(opinion.logits, rows[sample.index])
    for level, size, whole in zip(answer.opinions['scores'], sample.level_sizes, opinion.score_maps, strict=True):
        assert level.logits.shape[-2:] == level.feature.shape[-2:] == size
        torch.testing.assert_close(level.logits, whole[..., : size[0], : size[1]])


def test_a_teacher_that_sees_less_is_an_error():
    model = build(detectors.one_stage('fcos'))
    _, answer, images = study(model, tiny.detection_data())
    (opinion,) = ask(model, images[..., :32, :], answer.samples['dense'][0])['dense']
    with pytest.raises(
        ViewError, match=r"the teacher's maps are smaller than the student's: \(4, 8\) for \(8, 8\); set"
    ):
        opinion.logits  # noqa: B018


@pytest.mark.parametrize('head', ['retinanet', 'fcos', 'rtmdet'])
def test_a_class_map_is_as_a_teacher_with_its_outputs_permuted(head):
    model = build(detectors.one_stage(head))
    small = build(detectors.one_stage(head, classes=2))
    _, answer, images = study(small, tiny.detection_data(boxes=(tiny.BOXES[:2], tiny.BOXES[:2])))
    (sample,) = answer.samples['dense']
    mapped, whole = ask(model, images, sample, class_map=[2, 0]), ask(model, images)
    anchors = whole['scores'][0].logits.shape[1] // 3
    channels = [3 * anchor + chosen for anchor in range(anchors) for chosen in (2, 0)]
    for ours, theirs in zip(mapped['scores'], whole['scores'], strict=True):
        torch.testing.assert_close(ours.logits, theirs.logits[:, channels])
    (opinion,) = mapped['dense']
    assert opinion.logits.shape == (sample.num_sampled, 2)
    first = whole['scores'][0].logits[0, [2, 0], 0, 0]
    torch.testing.assert_close(opinion.logits_at(torch.tensor([0]))[0], first)


def test_a_teacher_runs_its_head_once_and_nothing_else(monkeypatch):
    model = build(detectors.one_stage('fcos')).eval()
    _, answer, images = study(build(detectors.one_stage('fcos')), tiny.detection_data())
    ran = []

    def noting(name, original):
        return lambda *args, **kwargs: ran.append(name) or original(*args, **kwargs)

    for part in ('backbone', 'neck', 'bbox_head'):
        module = getattr(model, part)
        monkeypatch.setattr(module, 'forward', noting(part, module.forward))
    for method in ('loss', 'predict', 'loss_by_feat', 'get_targets', 'predict_by_feat'):
        monkeypatch.setattr(model.bbox_head, method, None)
    ask(model, images, answer.samples['dense'][0])
    assert ran == ['backbone', 'neck', 'bbox_head']
    ran.clear()
    build_view(model, 'teacher').answer(Question(frozenset({'neck'})), images)
    assert ran == ['backbone', 'neck']


def test_a_low_precision_teacher_answers_in_float32():
    _, answer, images = study(build(detectors.one_stage('gfl')), tiny.detection_data())
    opinions = ask(build(detectors.one_stage('gfl')).bfloat16(), images.bfloat16(), answer.samples['dense'][0])
    (opinion,) = opinions['dense']
    assert opinion.logits.dtype == opinion.deltas.dtype == torch.float32
    assert {one.dtype for level in opinions['scores'] for one in (level.logits, level.feature)} == {torch.float32}


def test_listening_leaves_no_trace():
    model = build(detectors.one_stage('atss'))
    study(model, tiny.detection_data(), kinds=('dense', 'scores'))
    assert not any({'forward', 'get_targets', 'loss'} & vars(module).keys() for module in model.modules())


def test_which_pixels_are_no_padding():
    _, answer, images = study(build(detectors.one_stage('fcos')), tiny.detection_data(), kinds=('scores',))
    first, *others = answer.samples['scores']
    assert all(other is first for other in others)
    assert first.images is images
    assert first.valid[0].all()
    assert first.valid[1].sum() == 48 * 60
    assert first.valid[1, :48, :60].all()


# --- what is refused ------------------------------------------------------------------------------------------------------

SERVED = {
    'AnchorHead',
    'ATSSHead',
    'FCOSHead',
    'GFLHead',
    'NASFCOSHead',
    'RTMDetHead',
    'RTMDetSepBNHead',
    'RetinaHead',
    'RetinaSepBNHead',
}


def complaint_about(model, head):
    """Return what the view says of a head of this class, which is not built, if anything."""
    model.bbox_head = head.__new__(head)
    torch.nn.Module.__init__(model.bbox_head)
    model.bbox_head.num_classes = model.bbox_head.cls_out_channels = 3
    try:
        build_view(model, 'student').check('dense')
    except ViewError as error:
        return str(error)
    return None


def test_every_other_head_of_mmdet_is_refused_by_name():
    from mmdet.models import dense_heads

    heads = {name: head for name, head in vars(dense_heads).items() if inspect.isclass(head)}
    model = build(detectors.one_stage('fcos'))
    said = {name: complaint_about(model, head) for name, head in heads.items() if not inspect.isabstract(head)}
    assert {name for name, complaint in said.items() if complaint is None} == SERVED
    refused = {name: complaint for name, complaint in said.items() if complaint is not None}
    assert {'PAAHead', 'FSAFHead', 'FoveaHead', 'YOLOV3Head', 'SSDHead', 'DETRHead'} <= refused.keys()
    for name, complaint in refused.items():
        assert complaint.startswith(f'student.bbox_head is a {name}, which finds its targets or its losses')


def test_a_subclass_that_changes_layers_alone_is_served():
    from mmdet.models.dense_heads import FCOSHead

    model = build(detectors.one_stage('fcos'))
    model.bbox_head.__class__ = type('Mine', (FCOSHead,), {'_init_layers': lambda self: None})
    build_view(model, 'student').check('dense')
    model.bbox_head.__class__ = type('Other', (FCOSHead,), {'get_targets': lambda self: None})
    with pytest.raises(
        ViewError, match=r'^student.bbox_head is a Other, which finds its targets or its losses in a way'
    ):
        build_view(model, 'student').check('scores')


def test_softmax_classes_are_refused():
    changes = {'bbox_head.loss_cls': dict(type='mmdet.CrossEntropyLoss', use_sigmoid=False, _delete_=True)}
    model = build(detectors.one_stage('retinanet', changes))
    for kind in ('dense', 'scores'):
        with pytest.raises(
            ViewError, match=r'^teacher.bbox_head is a RetinaHead with softmax classes: .*use_sigmoid=True'
        ):
            build_view(model, 'teacher').check_teacher(kind)


def test_kinds_of_other_families_are_refused():
    model = build(detectors.one_stage('fcos'))
    with pytest.raises(ViewError, match=r'^student \(FCOS\) has no RoI head'):
        build_view(model, 'student').check('roi')
    with pytest.raises(
        ViewError, match=r'^teacher \(FasterRCNN\) has no dense head; only one-stage detectors have one'
    ):
        build_view(tiny.build(tiny.faster_rcnn()), 'teacher').check('dense')


def test_a_family_member_without_a_dense_head():
    model = build(detectors.one_stage('fcos'))
    del model.bbox_head
    view = build_view(model, 'student')
    assert isinstance(view, DenseHeadView)
    with pytest.raises(ViewError, match=r'^student \(FCOS\) has no dense head'):
        view.check('scores')


def differing(own, other, kind='dense', **options):
    views = build_view(tiny.build(own), 'student'), build_view(tiny.build(other), 'teacher', **options)
    return views[0].differences(views[1], kind)


@pytest.mark.parametrize(
    'head, changes, kind, expected',
    [
        (
            'retinanet',
            {'bbox_head.anchor_generator.octave_base_scale': 5},
            'scores',
            'bbox_head.anchor_generator.scales',
        ),
        (
            'retinanet',
            {'bbox_head.anchor_generator.center_offset': 0.5},
            'dense',
            'bbox_head.anchor_generator.center_offset',
        ),
        ('retinanet', {'bbox_head.anchor_generator.ratios': [1.0]}, 'scores', 'bbox_head.anchor_generator.ratios'),
        ('retinanet', {'bbox_head.bbox_coder.target_stds': [0.1] * 4}, 'dense', 'bbox_head.bbox_coder'),
        ('fcos', {'bbox_head.strides': [8, 16, 32, 64, 160]}, 'scores', 'bbox_head.strides'),
        ('fcos', {'bbox_head.strides': [8, 16, 32, 64], 'neck.num_outs': 4}, 'dense', 'bbox_head.strides'),
        ('rtmdet', {'bbox_head.anchor_generator.offset': 0.5}, 'dense', 'bbox_head.anchor_generator.offset: 0 in'),
        ('gfl', {'bbox_head.reg_max': 8}, 'dense', 'bbox_head.reg_max: 16 in the student, 8 in the teacher'),
        ('gfl', {'bbox_head.num_classes': 5}, 'scores', 'bbox_head.num_classes: 3 in the student, 5 in the teacher'),
        ('atss', {'bbox_head.num_classes': 5}, 'dense', 'bbox_head.num_classes: 3 in the student, 5 in the teacher'),
    ],
)
def test_teachers_that_speak_of_other_places(head, changes, kind, expected):
    (found,) = differing(detectors.one_stage(head), detectors.one_stage(head, changes), kind)
    assert found.startswith(expected)


def test_teachers_that_speak_of_the_same_places():
    retinanet, fcos, gfl = (detectors.one_stage(head, width=16, fpn=24) for head in ('retinanet', 'fcos', 'gfl'))
    assert differing(detectors.one_stage('retinanet'), retinanet) == []
    assert differing(detectors.one_stage('fcos', {'bbox_head.norm_on_bbox': True}), fcos) == [], 'strides in both'
    assert differing(detectors.one_stage('gfl'), tiny.edit(gfl, {'bbox_head.reg_max': 8}), 'scores') == []
    assert differing(detectors.one_stage('gfl', classes=2), gfl, class_map=[2, 0]) == []


def test_a_teacher_of_another_kind_of_head():
    found = '; '.join(differing(detectors.one_stage('atss'), detectors.one_stage('gfl')))
    assert 'bbox_head.bbox_coder: DeltaXYWHBBoxCoder' in found
    assert 'bbox_head.reg_max: None in the student, 16 in the teacher' in found


def test_levels_of_two_image_sizes_are_refused():
    config = detectors.one_stage('fcos')
    for kind in ('dense', 'scores'):
        with pytest.raises(
            ViewError, match=r'^teacher.input_scale is 2, and the levels of two image sizes do not look at'
        ):
            differing(config, config, kind, input_scale=2.0)


def test_a_sample_is_of_one_image_size():
    nothing = torch.zeros(0, dtype=torch.long)
    sample = DenseSample(nothing, nothing, nothing, torch.zeros(0, 4), torch.zeros(1, 2), ((1, 1),), (8,), (), 3)
    question = Question(samples={'dense': [sample]})
    assert question.rescaled(1) is question
    with pytest.raises(ViewError, match='anchors and points of two input scales are not the same places'):
        question.rescaled(2)
