"""Detectors' heads on images without labels: the student's best proposals, anchors and places."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.structures import InstanceData

from kddense.exchange import rows_of

from ..helpers import detectors, mask_models, tiny, transformers
from ..helpers.two_processes import in_two_processes

PLACES = {'train_cfg.unlabelled_places': 20}
TWO_STAGE = {'faster_rcnn': tiny.faster_rcnn, 'cascade_rcnn': tiny.cascade_rcnn, 'mask_rcnn': tiny.mask_rcnn}
HEADS = dict(rpn=dict(type='kddense.ChenRPNObjective'), roi=dict(type='kddense.ChenRoIObjective'))
SOFT = dict(soft=dict(type='kddense.DenseHintonObjective'))


def make(name, *changes):
    if name in TWO_STAGE:
        return TWO_STAGE[name](*changes)
    return detectors.one_stage(name, PLACES, *changes)


def distiller(name, objectives=None):
    """Return a distiller whose norms and dropout rest: images do not know of each other."""
    model = tiny.distiller(make(name), make(name), objectives or (HEADS if name in TWO_STAGE else SOFT))
    model.train()
    model.student.eval()
    return model


def batch(*unlabelled, count=3, masks=False):
    """Return data of images with boxes; some have none, and say so."""
    data = tiny.detection_data([(64, 64)] * count, [tiny.BOXES[number % 2 :] for number in range(count)], masks)
    for number in unlabelled:
        data['data_samples'][number].set_metainfo(dict(unlabelled=True))
        for name in ('gt_instances', 'ignored_instances'):
            setattr(data['data_samples'][number], name, InstanceData())  # as mmdet packs an image without labels
    return data


def without(data, *which):
    kept = [number for number in range(len(data['inputs'])) if number not in which]
    return {key: [values[number] for number in kept] for key, values in data.items()}


def losses_of(model, data):
    torch.manual_seed(0)
    return model(**model.data_preprocessor(copy.deepcopy(data), True), mode='loss')


def heard(model, name, data):
    """Run a step; return what an objective was given, and the losses."""
    objective, given = model.objectives[name], {}
    forward = objective.forward
    objective.forward = lambda seen, taught: given.update(seen=seen, taught=taught) or forward(seen, taught)
    losses = losses_of(model, data)
    objective.forward = forward
    return given['seen'], given['taught'], losses


# --- what is sampled ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', list(TWO_STAGE))
def test_rois_are_the_best_proposals_of_the_student(name):
    model = distiller(name)
    head, proposals = model.student.rpn_head, []
    predict = head.predict_by_feat

    def noted(*args, **kwargs):
        found = predict(*args, **kwargs)
        proposals.extend(copy.deepcopy(found))
        return found

    head.predict_by_feat = noted
    seen, taught, _ = heard(model, 'roi', batch(1, masks=name == 'mask_rcnn'))
    sample, *later = seen.samples['roi']
    of_one = sample.image == 1
    best = proposals[1].scores.topk(min(32, len(proposals[1]))).indices
    assert len(best) >= 20
    torch.testing.assert_close(sample.rois[of_one, 1:], proposals[1].bboxes[best])
    assert not sample.rois.requires_grad
    assert set(sample.image.tolist()) == {0, 1, 2}
    for stage, one in enumerate([sample, *later]):
        assert not (one.image[one.positive] == 1).any()
        own, other = (side.opinions['roi'][stage] for side in (seen, taught))
        assert own.logits.shape == other.logits.shape == (one.num_sampled, 4)
        assert (one.image == 1).sum() == len(best), 'a cascade goes on with as many'


@pytest.mark.parametrize('sigmoid', [True, False])
def test_anchors_of_an_rpn_are_the_best_by_score(sigmoid):
    student = tiny.faster_rcnn({'rpn_head.loss_cls.use_sigmoid': sigmoid})
    model = tiny.distiller(student, tiny.faster_rcnn(), HEADS)
    head, maps = model.student.rpn_head, []
    forward = head.forward
    head.forward = lambda features: maps.append(forward(features)) or maps[-1]
    seen, _, losses = heard(model, 'rpn', batch(1))
    (sample,) = seen.samples['rpn']
    logits = rows_of(maps[0][0], head.cls_out_channels, sample.level_sizes)
    scores = (logits[:, 0].sigmoid() if sigmoid else logits.softmax(1)[:, 0]).view(3, -1)
    found = sample.index[sample.image == 1] - sample.per_image
    assert torch.equal(found, scores[1].topk(48).indices.sort().values)
    assert (sample.image[sample.positive] != 1).all()
    divergence = model.objectives['rpn'].soft_loss
    said = (seen.opinions['rpn'][0].logits, heard(model, 'rpn', batch(1))[1].opinions['rpn'][0].logits)
    torch.testing.assert_close(losses['distill.rpn.loss_cls'], 0.5 * divergence(*said, num_sampled=sample.num_sampled))


@pytest.mark.parametrize('name', detectors.HEADS)
def test_places_of_a_dense_head_are_the_best_by_class_score(name):
    model = distiller(name)
    seen, taught, losses = heard(model, 'soft', batch(1))
    (sample,), (own,), (other,) = seen.samples['dense'], seen.opinions['dense'], taught.opinions['dense']
    count = len(sample.priors)
    everywhere = torch.arange(3 * count)
    scores = own.logits_at(everywhere).sigmoid().amax(1).view(3, count)
    assert torch.equal(sample.index[sample.image == 1] - count, scores[1].topk(20).indices.sort().values)
    assert (sample.image[sample.positive] != 1).all()
    assert (sample.labels[sample.image == 1] == 3).all()
    assert sample.left_out == (0, count - 20, 0)
    assert [len(one) for one in sample.ground_truth] == [3, 0, 3]
    (alone,) = heard(model, 'soft', without(batch(1), 1))[0].samples['dense']
    labelled = sample.cut(3)
    for key in ('index', 'labels', 'positive', 'targets'):
        for part, expected in zip((labelled[0], labelled[2]), alone.cut(2), strict=True):
            assert torch.equal(getattr(part, key), getattr(expected, key))
    student, teacher = (side.logits_at(sample.index) for side in (own, other))
    bits = [torch.distributions.Bernoulli(logits=one.double()) for one in (teacher, student)]
    mean = torch.distributions.kl_divergence(*bits).sum() / (alone.num_sampled + count)
    torch.testing.assert_close(losses['distill.soft.loss'].double(), mean, rtol=1e-4, atol=1e-7)


def test_without_an_option_a_thousand_places_count():
    student = tiny.edit(detectors.one_stage('retinanet'))
    model = tiny.distiller(student, student, SOFT)
    data = tiny.detection_data([(128, 128)] * 2, [tiny.BOXES] * 2)
    data['data_samples'][1].set_metainfo(dict(unlabelled=True))
    (sample,) = heard(model, 'soft', data)[0].samples['dense']
    assert (sample.image == 1).sum() == 1000 < len(sample.priors)
    assert sample.num_places == sample.num_sampled + len(sample.priors) - 1000


# --- mixed batches, and such without any label --------------------------------------------------------------------------


@pytest.mark.parametrize('name', ['faster_rcnn', 'cascade_rcnn', 'mask_rcnn', *detectors.HEADS])
def test_the_students_own_losses_are_of_the_labelled_images(name):
    """They are those of a batch without the others, and what is compared is not; with as many images as levels."""
    model = distiller(name)
    data = batch(1, 3, count=5, masks=name == 'mask_rcnn')
    losses, alone = losses_of(model, data), losses_of(model, without(data, 1, 3))
    assert losses.keys() == alone.keys()
    for key, value in losses.items():
        if key.startswith('distill') and not key.endswith('bbox'):
            assert value != alone[key]
        elif 'loss' in key and not key.startswith('distill'):
            torch.testing.assert_close(tiny.total({key: value}), tiny.total({key: alone[key]}), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', ['faster_rcnn', 'fcos'])
def test_labels_of_some_classes_and_scores_belong_to_their_images(name):
    """RoIs and places are numbered by the images of the whole batch, unlabelled ones too."""
    model = distiller(name)
    data = batch(0)
    data['data_samples'][1].set_metainfo(dict(labelled_classes=(0, 1)))
    data['data_samples'][2].gt_instances.scores = torch.tensor([0.3, 0.9, 0.5])
    losses, alone = losses_of(model, data), losses_of(model, without(data, 0))
    for key in filter(lambda key: key.startswith('loss'), alone):
        torch.testing.assert_close(tiny.total({key: losses[key]}), tiny.total({key: alone[key]}), rtol=1e-4, atol=1e-5)


def test_boxes_of_rois_are_compared_where_there_is_a_target():
    """Those of images without labels are zeros, as those of negatives, in a mean over all RoIs."""
    model = distiller('faster_rcnn')
    seen, _, mixed = heard(model, 'roi', batch(1))
    seen_alone, _, alone = heard(model, 'roi', without(batch(1), 1))
    rows, rows_alone = (one.samples['roi'][0].num_sampled for one in (seen, seen_alone))
    assert rows > rows_alone
    key = 'distill.roi.loss_bbox'
    assert alone[key] > 0
    torch.testing.assert_close(mixed[key] * rows, alone[key] * rows_alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('name', ['faster_rcnn', 'cascade_rcnn', 'mask_rcnn', *detectors.HEADS])
def test_a_batch_may_be_wholly_unlabelled(name):
    """Heads learn from the teacher alone, their own losses are zeros, and all weights have a gradient."""
    model = distiller(name)
    losses = losses_of(model, batch(0, 1, 2))
    own = {key: value for key, value in losses.items() if not key.startswith('distill')}
    assert 'loss_unlabelled' in own
    assert len(own) > 2
    assert tiny.total(own) == 0
    for key in losses.keys() - own.keys():
        assert (losses[key] > 0) == (not key.endswith('bbox'))
    tiny.total(losses).backward()
    weights = {key: one for key, one in model.student.named_parameters() if one.requires_grad}
    assert not [key for key, one in weights.items() if one.grad is None]
    learned = {key for key, one in weights.items() if one.grad.any()}
    assert {'neck.fpn_convs.0.conv.weight'} <= learned
    classes = ('fc_cls', 'rpn_cls', '_cls.weight', 'rtm_cls.0.weight')
    assert any(any(part in key for part in classes) for key in learned)
    assert not [key for key in learned if 'mask' in key or 'fc_reg' in key or 'rpn_reg' in key]


@pytest.mark.parametrize(
    'name, objective',
    [
        ('faster_rcnn', dict(type='kddense.DKDObjective')),
        ('faster_rcnn', dict(type='kddense.DeFeatClassObjective')),
        ('faster_rcnn', dict(type='kddense.AttentiveBoxObjective', error_range=1.0)),
        ('faster_rcnn', dict(type='kddense.RelationObjective', loss=dict(type='kddense.RKDLoss'))),
        ('mask_rcnn', dict(type='kddense.MaskObjective')),
        ('fcos', dict(type='kddense.DenseHintonObjective', average='positives')),
        ('fcos', dict(type='kddense.ChenDenseObjective', average='positives')),
        ('fcos', dict(type='kddense.DKDObjective')),
        ('fcos', dict(type='kddense.PrivilegedObjective', average='positives')),
        ('fcos', dict(type='kddense.CrossKDObjective')),
        ('gfl', dict(type='kddense.LDObjective', class_weight=1.0)),
    ],
    ids=lambda value: value if isinstance(value, str) else value['type'].removeprefix('kddense.'),
)
def test_what_needs_labels_compares_the_labelled_images_alone(name, objective):
    model = distiller(name, dict(it=objective))
    data = batch(1, masks=name == 'mask_rcnn')
    losses, alone = losses_of(model, data), losses_of(model, without(data, 1))
    found = [key for key in alone if key.startswith('distill')]
    assert any(alone[key] > 0 for key in found)
    for key in found:
        torch.testing.assert_close(losses[key], alone[key], rtol=1e-4, atol=1e-6)
    losses = losses_of(model, batch(0, 1, 2))
    assert all(losses[key] == 0 for key in found)
    tiny.total(losses).backward()


@pytest.mark.parametrize(
    'name, objective',
    [
        ('retinanet', dict(type='kddense.CWDObjective', on='bbox_head')),
        ('retinanet', dict(type='kddense.GIDObjective')),
        ('fcos', dict(type='kddense.DISTObjective')),
        ('faster_rcnn', dict(type='kddense.DISTObjective')),
        ('faster_rcnn', dict(type='kddense.FeatureObjective', tap='roi_head.bbox_head.fc_cls:input')),
    ],
    ids=lambda value: value if isinstance(value, str) else value['type'].removeprefix('kddense.'),
)
def test_other_objectives_of_heads_take_both(name, objective):
    model = distiller(name, dict(it=objective))
    for unlabelled in ((1,), (0, 1, 2)):
        losses = losses_of(model, batch(*unlabelled))
        total = tiny.total({key: value for key, value in losses.items() if key.startswith('distill')})
        assert torch.isfinite(total)
        assert (total > 0) == (unlabelled == (1,) or not (name == 'fcos' and 'DIST' in objective['type']))
        tiny.total(losses).backward()


def test_what_is_left_of_a_ground_truth_is_not_looked_at():
    """Images that say that they have no labels may come with boxes."""
    model = distiller('faster_rcnn')
    data, bare = batch(), batch(1)
    data['data_samples'][1].set_metainfo(dict(unlabelled=True))
    losses, expected = losses_of(model, data), losses_of(model, bare)
    assert all(tiny.total({key: losses[key]}) == tiny.total({key: expected[key]}) for key in losses)


def test_methods_of_the_student_are_its_own_again():
    model = distiller('cascade_rcnn')
    losses_of(model, batch(1))
    losses_of(model, batch(0, 1, 2))
    changed = {'loss', 'loss_by_feat', 'loss_and_predict', 'get_targets', 'loss_and_target'}
    assert not [path for path, module in model.student.named_modules() if changed & set(vars(module))]
    assert not any('sample' in vars(sampler) for sampler in model.student.roi_head.bbox_sampler)


@pytest.mark.parametrize('name', ['fcos', 'faster_rcnn'])
def test_processes_with_labels_and_without_take_equal_steps(name, tmp_path):
    """One has labelled images alone, the other none: nobody waits for ever."""
    data = (without(batch(), 2), batch(0, 1, count=2))
    more = dict(boxes=dict(type='kddense.FGDObjective')) if name == 'fcos' else {}
    model = distiller(name, {**(SOFT if name == 'fcos' else HEADS), **more})

    def step(rank):
        losses = losses_of(model, data[rank])
        tiny.total(losses).backward()
        assert all(one.grad is not None for one in model.parameters() if one.requires_grad)
        return {key: value.detach() for key, value in losses.items() if key.startswith('distill')}

    first, second = in_two_processes(step, tmp_path)
    key = 'distill.soft.loss' if name == 'fcos' else 'distill.roi.loss_cls'
    assert first[key] > 0
    assert second[key] > 0


# --- what does not fit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('wrong', [0, 0.5, 'all'])
def test_the_number_of_places_is_checked_at_build(wrong):
    student = detectors.one_stage('fcos', {'train_cfg.unlabelled_places': wrong})
    with pytest.raises(
        ValueError, match=r'^objectives.soft: student.train_cfg.unlabelled_places must be a number of at least 1, got'
    ):
        tiny.distiller(student, make('fcos'), SOFT)


def test_kinds_that_need_labels_are_refused_by_name():
    objective = dict(type='kddense.DETRDistillObjective')
    model = tiny.distiller(transformers.detr('dab'), transformers.detr('dab'), dict(it=objective))
    with pytest.raises(ValueError, match=r'^objectives.it: student \(DABDETR\) has no .* of unlabelled images, as its'):
        losses_of(model, batch(0, 1, 2))
    stuff = dict(type='kddense.PixelWiseObjective', on='semantic_head')
    student = mask_models.panoptic_fpn()
    model = tiny.distiller(student, student, dict(it=stuff))
    data = mask_models.panoptic_data()
    data['data_samples'][1].set_metainfo(dict(unlabelled=True))
    with pytest.raises(ValueError, match=r'^objectives.it: student \(PanopticFPN\) has no semantic head of unlabelled'):
        losses_of(model, data)


def test_heads_that_make_their_losses_in_a_way_of_their_own_are_refused_by_name(monkeypatch):
    model = distiller('faster_rcnn')
    head = model.student.roi_head

    class OwnLosses(type(head)):
        def loss(self, *args, **kwargs):
            return super().loss(*args, **kwargs)

    monkeypatch.setattr(head, '__class__', OwnLosses)
    with pytest.raises(
        ValueError,
        match=r'^objectives.roi: student.roi_head is a OwnLosses, which makes its losses in a way of its own',
    ):
        losses_of(model, batch(1))
    losses_of(model, batch())
