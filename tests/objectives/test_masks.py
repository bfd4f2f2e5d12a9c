"""Masks towards the teacher's, on the student's positive RoIs."""

import pytest
import torch
from torch.nn import functional as F

from kddense.losses import dice_distance
from kddense.objectives import MaskObjective

from ..helpers import mask_models, plugins, tiny
from ..helpers.two_processes import in_two_processes

DATA = tiny.detection_data(masks=True)
MASKS = dict(type='kddense.MaskObjective')
AGNOSTIC = {'roi_head.mask_head.class_agnostic': True}
HEADS = ('mask_head', 'bbox_head')


def cascade(*changes, **options):
    return tiny.two_stage('cascade-mask-rcnn_r50_fpn', *changes, **options)


MODELS = {
    'mask r-cnn': tiny.mask_rcnn,
    'agnostic': lambda **options: tiny.mask_rcnn(AGNOSTIC, **options),
    'cascade': cascade,
}


def distiller(student, teacher=None, objective=MASKS, **options):
    teacher = student if teacher is None else teacher
    return tiny.distiller(student, tiny.teacher_of(teacher, **options), dict(x=objective))


def own_losses(losses):
    return {name.removeprefix('distill.x.'): value for name, value in losses.items() if name.startswith('distill.x.')}


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@pytest.mark.parametrize('model', MODELS)
def test_masks_are_learned(model, precision):
    student = MODELS[model]()
    built = distiller(student, MODELS[model](width=16, fpn=32), precision=precision)
    found = plugins.gradients(built, DATA)
    assert any(key.startswith('roi_head.mask_head') for key in found)
    assert any(key.startswith('backbone') for key in found)
    assert not any(key.startswith('roi_head.bbox_head') for key in found)
    plugins.train(built, DATA)
    plugins.assert_contracts(built, student)


@pytest.mark.parametrize('model', MODELS)
def test_twins_agree(model):
    built = distiller(MODELS[model]())
    assert all(float(value) > 0 for value in own_losses(tiny.step(built, DATA)).values())
    plugins.make_twins(built)
    assert all(abs(float(value)) < 1e-5 for value in own_losses(plugins.losses_of(built, DATA)).values())


def kept(built, data=DATA):
    """Return the losses of one step, the student's samples, and both opinions on them."""
    (objective,) = built.objectives.values()
    heard = []
    forward = objective.forward
    objective.forward = lambda seen, taught: heard.append((seen, taught)) or forward(seen, taught)
    losses = own_losses(tiny.step(built, data))
    del objective.forward
    ((seen, taught),) = heard
    return losses, *(side['masks'] for side in (seen.samples, seen.opinions, taught.opinions))


def test_losses_are_those_of_the_students_positive_rois():
    losses, (sample,), (own,), (other,) = kept(distiller(tiny.mask_rcnn(), tiny.mask_rcnn(width=16)))
    assert sample.rois.shape == (len(sample.labels), 5)
    assert own.logits.shape == other.logits.shape == (len(sample.rois), 28, 28)
    target = other.logits.sigmoid()
    least = F.binary_cross_entropy(target, target)
    cross_entropy = F.binary_cross_entropy_with_logits(own.logits, target)
    torch.testing.assert_close(losses['loss_mask'], cross_entropy - least, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(losses['loss_dice'], dice_distance(own.logits, other.logits))


def test_the_mask_of_the_true_class_is_compared():
    _, (sample,), (own,), _ = kept(distiller(tiny.mask_rcnn()))
    assert set(sample.labels.tolist()) <= {0, 1, 2}
    assert len(own.logits) == len(sample.labels)
    mapped = distiller(
        tiny.mask_rcnn({'roi_head.bbox_head.num_classes': 2, 'roi_head.mask_head.num_classes': 2}),
        tiny.mask_rcnn(),
        class_map=[2, 0],
    )
    plain = distiller(tiny.mask_rcnn())
    plain.teachers['teacher'].model.load_state_dict(mapped.teachers['teacher'].model.state_dict())
    data = tiny.detection_data(boxes=(tiny.BOXES[:2], tiny.BOXES[:1]), masks=True)
    _, (sample,), _, (other,) = kept(mapped, data)
    head = mapped.teachers['teacher'].model.roi_head
    features = mapped.teachers['teacher'].model.extract_feat(mapped.data_preprocessor(data, True)['inputs'])
    with torch.no_grad():
        masks = head._mask_forward(features, sample.rois)['mask_preds']
    wanted = masks[torch.arange(len(masks)), torch.tensor([2, 0])[sample.labels]]
    torch.testing.assert_close(other.logits, wanted, rtol=0, atol=1e-4)


def test_stages_of_a_cascade_have_the_weights_of_their_losses():
    losses, samples, ours, theirs = kept(distiller(cascade(), cascade(width=16)))
    assert [sample.weight for sample in samples] == [1, 0.5, 0.25]
    found = sum(
        sample.weight * dice_distance(own.logits, other.logits)
        for sample, own, other in zip(samples, ours, theirs, strict=True)
    )
    torch.testing.assert_close(losses['loss_dice'], found)


def test_images_without_instances_are_a_zero_that_back_propagates():
    built = distiller(tiny.mask_rcnn())
    losses = tiny.step(built, tiny.detection_data(boxes=((), ()), masks=True))
    assert all(float(value) == 0 for value in own_losses(losses).values())
    tiny.total(losses).backward()


def test_a_term_of_weight_0_is_no_loss():
    assert set(own_losses(tiny.step(distiller(tiny.mask_rcnn(), objective=dict(MASKS, dice_weight=0.0)), DATA))) == {
        'loss_mask'
    }


def gradients(data, rank=None):
    """Return the gradients of the mask head of a student, of a whole batch or of one of two halves."""
    built = distiller(tiny.mask_rcnn(), tiny.mask_rcnn(width=16)).train()
    for norm in (one for one in built.student.modules() if isinstance(one, torch.nn.BatchNorm2d)):
        norm.eval()
    part = data if rank is None else {key: one[rank::2] for key, one in data.items()}
    losses = own_losses(plugins.losses_of(built, part))
    sum(losses.values()).backward()
    return {name: one.grad for name, one in built.student.roi_head.mask_head.named_parameters()}


def test_two_processes_with_half_the_batch_are_one_with_the_whole(tmp_path, monkeypatch):
    """Where RoIs are the ground truth alone: proposals are sampled at random."""
    from mmdet.models import RPNHead
    from mmengine.structures import InstanceData

    def nothing(self, *args, batch_img_metas=(), **kwargs):
        return [
            InstanceData(bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.long))
            for _ in batch_img_metas
        ]

    monkeypatch.setattr(RPNHead, 'predict_by_feat', nothing)
    boxes = (tiny.BOXES, tiny.BOXES[:1], tiny.BOXES[1:], tiny.BOXES)
    data = tiny.detection_data(sizes=((64, 64),) * 4, boxes=boxes, masks=True)
    whole = gradients(data)
    first, second = in_two_processes(lambda rank: gradients(data, rank), tmp_path)
    for name, value in whole.items():
        torch.testing.assert_close((first[name] + second[name]) / 2, value, rtol=1e-3, atol=1e-5, msg=name)


OTHERS = {
    'solo': (mask_models.solo(), 'SOLO'),
    'condinst': (mask_models.condinst(), 'CondInst'),
    'mask2former': (mask_models.mask2former(), 'Mask2Former'),
}


@pytest.mark.parametrize('name', OTHERS)
def test_masks_that_are_not_drawn_for_rois_are_refused_by_name(name):
    config, model = OTHERS[name]
    with pytest.raises(
        ValueError, match=rf'objectives.x: student \({model}\) has no mask head on RoIs; only Mask R-CNN'
    ):
        distiller(config)


def test_what_cannot_be_compared_is_named():
    with pytest.raises(ValueError, match=r'teacher \(FasterRCNN\) has no mask head: take a model with one'):
        distiller(tiny.mask_rcnn(), tiny.faster_rcnn())
    with pytest.raises(ValueError, match='num_classes: 3 in the student, 5 in the teacher'):
        distiller(tiny.mask_rcnn(), tiny.mask_rcnn({'roi_head.mask_head.num_classes': 5}))
    with pytest.raises(ValueError, match=r'masks of \(28, 28\) cells in the student and of \(14, 14\) in the teacher'):
        distiller(tiny.mask_rcnn(), tiny.mask_rcnn({'roi_head.mask_head.upsample_cfg.type': None}))
    with pytest.raises(ValueError, match='roi_head.num_stages: 1 in the student, 3 in the teacher'):
        distiller(tiny.mask_rcnn(), cascade())


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(mask_weight=0, dice_weight=0), 'mask_weight and dice_weight are both 0'),
        (dict(dice_weight=-1), 'dice_weight must be at least 0, got -1'),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MaskObjective(**options)
