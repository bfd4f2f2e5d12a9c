"""Panoptic FPN: things by boxes and masks on RoIs, stuff by the pixels of its semantic head."""

import pytest
import torch
from mmengine.config import Config
from torch import nn
from torch.nn import functional as F

from kddense.views import PanopticView

from ..helpers import plugins, tiny
from ..helpers.mask_models import panoptic_data, panoptic_fpn
from ..helpers.two_processes import in_two_processes

STUFF = dict(type='kddense.PixelWiseObjective', on='semantic_head')
OBJECTIVES = {
    'pixels': STUFF,
    'pixels of the code, labelled': dict(STUFF, mode='code', ignore_unlabelled_pixels=True),
    'pairs': dict(type='kddense.PairWiseObjective', on='semantic_head'),
    'channels': dict(type='kddense.CWDObjective', on='semantic_head'),
    'channels of features': dict(type='kddense.CWDObjective', on='semantic_head', compare='feature'),
}
KINDS_OF_STUFF = 53


DATA = panoptic_data()


def distiller(objective=STUFF, student=None, teacher=None, **options):
    teacher = tiny.teacher_of(teacher or panoptic_fpn(), **options)
    return tiny.distiller(student or panoptic_fpn(), teacher, dict(x=objective))


def own_losses(losses):
    return {name: value for name, value in losses.items() if name.startswith('distill.')}


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@pytest.mark.parametrize('name', OBJECTIVES)
def test_stuff_is_learned(name, precision):
    model = distiller(OBJECTIVES[name], precision=precision)
    assert type(model.student_view) is PanopticView
    found = {key.partition('.')[0] for key in plugins.gradients(model, DATA)}
    assert found == {'backbone', 'neck', 'semantic_head'}
    plugins.train(model, DATA, lr=1e-4)
    plugins.assert_contracts(model, panoptic_fpn())


@pytest.mark.parametrize('name', OBJECTIVES)
def test_twins_agree(name):
    model = distiller(OBJECTIVES[name])
    assert float(*own_losses(tiny.step(model, DATA)).values()) > 0
    plugins.make_twins(model)
    (loss,) = own_losses(plugins.losses_of(model, DATA)).values()
    if name != 'pixels of the code, labelled':  # a cross-entropy, not 0 where both agree
        assert abs(float(loss)) < 1e-5


def heard(model, data=DATA):
    """Return the sample, both opinions and the loss of one step."""
    (objective,) = model.objectives.values()
    kept = []
    forward = objective.forward
    objective.forward = lambda seen, taught: kept.append((seen, taught)) or forward(seen, taught)
    (loss,) = own_losses(tiny.step(model, data)).values()
    del objective.forward
    ((seen, taught),) = kept
    return *(group['stuff'][0] for group in (seen.samples, seen.opinions, taught.opinions)), loss


def test_stuff_is_what_the_semantic_head_says_of_pixels_of_the_image():
    wide = panoptic_fpn({'data_preprocessor.pad_size_divisor': 128})
    sample, own, other, loss = heard(distiller(dict(STUFF, ignore_unlabelled_pixels=True), teacher=wide))
    assert own.logits.shape == other.logits.shape == (2, KINDS_OF_STUFF + 1, 16, 16)
    assert not sample.valid[:, :5].any()
    assert sample.valid[0, 5:].all()
    assert sample.valid[1, 5:48, :60].all()
    assert not sample.valid[1, 48:].any()
    assert not sample.valid[1, :, 60:].any()
    kl = F.kl_div(own.logits.log_softmax(1), other.logits.log_softmax(1), log_target=True, reduction='none').sum(1)
    torch.testing.assert_close(loss, 10 * kl[sample.valid_at((16, 16))].mean(), rtol=1e-4, atol=1e-6)


def test_things_and_stuff_are_learned_together():
    model = tiny.distiller(panoptic_fpn(), panoptic_fpn(), ['chen2017', 'masks', 'stuff'])
    losses = own_losses(tiny.step(model, DATA))
    assert {name.split('.')[1] for name in losses} >= {'masks', 'stuff'}
    assert all(value.isfinite() for value in losses.values())
    found = {key.partition('.')[0] for key in plugins.gradients(model, DATA)}
    assert found == {'backbone', 'neck', 'rpn_head', 'roi_head', 'semantic_head'}
    plugins.train(model, DATA, lr=1e-4)
    plugins.assert_contracts(model, panoptic_fpn())


def test_images_without_instances_or_labels_are_served():
    data = panoptic_data(boxes=((), ()))
    for sample in data['data_samples']:
        sample.gt_sem_seg.sem_seg.fill_(255)
    losses = tiny.step(distiller(dict(STUFF, ignore_unlabelled_pixels=True)), data)
    assert [float(value) for value in own_losses(losses).values()] == [0]
    sum(own_losses(losses).values()).backward()


def test_a_student_in_bf16_learns_in_float32():
    """Under autocast as a run with AMP has it."""
    model = distiller()
    with torch.autocast('cpu', torch.bfloat16):
        (loss,) = own_losses(tiny.step(model, DATA)).values()
    (exact,) = own_losses(tiny.step(model, DATA)).values()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.3, atol=0.05)


def sampled(data, rank=None):
    """Return the student's gradients from the objective alone, of a whole batch or of one of two halves."""
    model = distiller().train()
    for norm in filter(lambda one: isinstance(one, nn.BatchNorm2d), model.student.modules()):
        norm.eval()
    part = data if rank is None else {key: one[rank::2] for key, one in data.items()}
    sum(own_losses(plugins.losses_of(model, part)).values()).backward()
    return {name: one.grad for name, one in model.student.named_parameters() if one.grad is not None}


def test_two_processes_with_half_the_batch_are_one_with_the_whole(tmp_path):
    data = panoptic_data(sizes=((64, 64),) * 4, boxes=(tiny.BOXES,) * 4)
    whole = sampled(data)
    first, second = in_two_processes(lambda rank: sampled(data, rank), tmp_path)
    assert whole.keys() == first.keys() == second.keys()
    for name, value in whole.items():
        torch.testing.assert_close((first[name] + second[name]) / 2, value, rtol=1e-3, atol=1e-5, msg=name)


def test_all_that_the_config_for_coco_compares_is_learned():
    config = Config.fromfile('configs/masks/chen-masks-stuff_r101_r50_panoptic-fpn_1x_coco.py')
    model = tiny.distiller(panoptic_fpn(), panoptic_fpn(), config.model.objectives)
    losses = tiny.step(model, DATA)
    assert set(model.objectives) == {'rpn', 'roi', 'hint', 'masks', 'stuff'}
    assert {name.split('.')[1] for name in own_losses(losses)} == set(model.objectives)
    found = {key.partition('.')[0] for key in plugins.gradients(model, DATA)}
    assert found == {'backbone', 'neck', 'rpn_head', 'roi_head', 'semantic_head'}


def test_what_cannot_be_compared_is_named():
    with pytest.raises(
        ValueError, match=r'objectives.x: student \(MaskRCNN\) has no semantic head; only Panoptic FPN has'
    ):
        distiller(student=tiny.mask_rcnn())
    with pytest.raises(
        ValueError, match=r'objectives.x: teacher \(MaskRCNN\) has no semantic head; only Panoptic FPN has'
    ):
        distiller(teacher=tiny.mask_rcnn())
    with pytest.raises(ValueError, match='semantic_head.num_stuff_classes: 53 in the student, 9 in the teacher'):
        distiller(teacher=panoptic_fpn({'semantic_head.num_stuff_classes': 9}))
    with pytest.raises(
        ValueError, match='teacher.class_map chooses classes of boxes, and what semantic_head says is stuff'
    ):
        distiller(class_map=list(range(80)))
    with pytest.raises(ValueError, match="on must be one of 'decode_head', .*'semantic_head', .*, got 'head'"):
        distiller(dict(STUFF, on='head'))
    headless = panoptic_fpn()
    headless.semantic_head = None
    with pytest.raises(ValueError, match='student.semantic_head is missing: only a PanopticFPNHead can be compared'):
        distiller(student=headless)
