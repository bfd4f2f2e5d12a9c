"""Masks of queries of Mask2Former and MaskFormer, matched with the teacher's."""

import itertools

import pytest
import torch
from mmengine.structures import PixelData
from torch.autograd import gradcheck
from torch.nn import functional as F

from kddense.losses import dice_distance, match_masks, matched_mask_distance
from kddense.objectives import MaskQueryObjective
from kddense.views import MaskFormerView

from ..helpers import mask_models, plugins, stock_models, tiny

OBJECTIVE = dict(type='kddense.MaskQueryObjective')
NAMES = ('loss_cls', 'loss_mask', 'loss_dice')


def maskformer():
    config = stock_models.small_model('mmdet::maskformer/maskformer_r50_ms-16xb1-75e_coco.py')
    return tiny.edit(config, {'panoptic_head.num_queries': 9, 'panoptic_head.transformer_decoder.num_layers': 2})


MODELS = {'mask2former': mask_models.mask2former, 'maskformer': maskformer}
EVERY = pytest.mark.parametrize('name', MODELS)


def data_of(**options):
    data = tiny.detection_data(masks=True, **options)
    for sample in data['data_samples']:
        sample.gt_sem_seg = PixelData(sem_seg=torch.zeros(1, *sample.img_shape, dtype=torch.long))
    return data


DATA = data_of()


def distiller(student, teacher=None, objective=OBJECTIVE, **options):
    teacher = tiny.teacher_of(student if teacher is None else teacher, **options)
    return tiny.distiller(student, teacher, dict(x=objective))


def own_losses(losses):
    return {name.removeprefix('distill.x.'): value for name, value in losses.items() if name.startswith('distill.x.')}


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@EVERY
def test_masks_are_learned(name, precision):
    student = MODELS[name]()
    model = distiller(student, precision=precision)
    assert isinstance(model.student_view, MaskFormerView)
    found = plugins.gradients(model, DATA)
    assert {'backbone', 'panoptic_head'} <= {key.partition('.')[0] for key in found}
    assert set(own_losses(tiny.step(model, DATA))) == set(NAMES)
    plugins.train(model, DATA, lr=1e-4)
    plugins.assert_contracts(model, student)


@EVERY
def test_twins_agree(name):
    model = distiller(MODELS[name]())
    assert any(float(value) > 1e-3 for value in own_losses(tiny.step(model, DATA)).values())
    plugins.make_twins(model)
    losses = own_losses(plugins.losses_of(model, DATA))
    assert all(abs(float(value)) < 1e-3 for value in losses.values()), losses


def test_a_teacher_that_pads_more_is_cut_to_the_students_image():
    wide = tiny.edit(mask_models.mask2former(), {'data_preprocessor.pad_size_divisor': 128})
    model = distiller(mask_models.mask2former(), wide)
    seen = []
    (objective,) = model.objectives.values()
    forward = objective.forward
    objective.forward = lambda own, other: seen.append((own, other)) or forward(own, other)
    tiny.step(model, DATA)
    ((own, other),) = (tuple(side.opinions['mask_queries'][0] for side in pair) for pair in seen)
    assert own.masks[0].shape == other.masks[0].shape == (2, 8, 16, 16)
    assert [part.masks[0].shape[0] for part in other.cut(2)] == [1, 1]
    joined = type(other).join(other.cut(2))
    assert all(torch.equal(*pair) for pair in zip(joined.masks, other.masks, strict=True))


def test_what_the_pixel_decoder_makes_can_be_tapped():
    hint = dict(type='kddense.FeatureObjective', tap='panoptic_head.pixel_decoder', levels=[0])
    student = mask_models.mask2former()
    model = distiller(student, mask_models.mask2former(16), hint)
    assert any(key.startswith('panoptic_head.pixel_decoder') for key in plugins.gradients(model, DATA))
    plugins.assert_contracts(model, student)


def test_images_without_instances_are_served():
    losses = tiny.step(distiller(mask_models.mask2former()), data_of(boxes=((), ())))
    assert all(value.isfinite() for value in own_losses(losses).values())
    tiny.total(losses).backward()


def test_what_cannot_be_compared_is_named():
    deep = {'panoptic_head.transformer_decoder.num_layers': 3}
    with pytest.raises(ValueError, match=r'speaks 3 times, that of the teacher 4 times, .* set layers='):
        distiller(mask_models.mask2former(), tiny.edit(mask_models.mask2former(), deep))
    last = dict(OBJECTIVE, layers='last')
    tiny.step(distiller(mask_models.mask2former(), tiny.edit(mask_models.mask2former(), deep), last), DATA)
    with pytest.raises(ValueError, match=r'num_classes \(things and stuff\): 3 in the student, 133 in the teacher'):
        distiller(mask_models.mask2former(), maskformer())
    with pytest.raises(ValueError, match=r'teacher \(MaskRCNN\) has no masks of queries; only MaskFormer'):
        distiller(mask_models.mask2former(), tiny.mask_rcnn())


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(cls_weight=0, mask_weight=0, dice_weight=0), 'are all 0: leave this objective out'),
        (dict(dice_weight=-1), 'dice_weight must be at least 0, got -1'),
        (dict(costs=(1.0, 2.0)), 'costs must be three numbers'),
        (dict(costs=(1.0, 2.0, -1.0)), 'costs must be at least 0, got -1'),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MaskQueryObjective(**options)


def said(count, seed=0, dtype=torch.float64):
    random = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=random, dtype=dtype)  # noqa: E731
    return draw(count, 4), draw(count, 3, 5)


@pytest.mark.parametrize('ours, theirs', [(4, 4), (4, 3), (3, 4)])
def test_no_other_matching_costs_less(ours, theirs):
    student, teacher = said(ours), said(theirs, 1)

    def price(row, column):
        logits, mask = (one[row] for one in student)
        target_logits, target = (one[column] for one in teacher)
        classes = -(target_logits.softmax(0) * logits.log_softmax(0)).sum()
        cells = F.binary_cross_entropy_with_logits(mask, target.sigmoid())
        return float(2 * classes + 5 * cells + 5 * dice_distance(mask[None], target[None]))

    rows, columns = match_masks(*student, *teacher)
    few = min(ours, theirs)
    least = min(
        sum(map(price, chosen, order))
        for chosen in itertools.combinations(range(ours), few)
        for order in itertools.permutations(range(theirs), few)
    )
    assert sum(map(price, rows.tolist(), columns.tolist())) == pytest.approx(least, rel=1e-4)


def test_values_are_means_over_pairs():
    (logits, masks), (target_logits, targets) = said(3), said(3, 1)
    weight = torch.tensor([1.0, 0.0, 3.0], dtype=torch.float64)
    found = matched_mask_distance(logits, masks, target_logits, targets, weight)
    kl = F.kl_div(logits.log_softmax(-1), target_logits.log_softmax(-1), log_target=True, reduction='batchmean')
    torch.testing.assert_close(found.classes, kl)
    alone = torch.stack([dice_distance(masks[row : row + 1], targets[row : row + 1]) for row in range(3)])
    torch.testing.assert_close(found.dice, (weight * alone).sum() / 4)
    target = targets.sigmoid()
    cells = F.binary_cross_entropy_with_logits(masks, target, reduction='none')
    cells = cells - F.binary_cross_entropy(target, target, reduction='none')
    torch.testing.assert_close(found.masks, (weight * cells.mean((1, 2))).sum() / 4)
    half = matched_mask_distance(logits, masks, target_logits, targets, weight, (6.0, 8.0))
    torch.testing.assert_close(torch.stack(half), torch.stack(found) / 2)


def test_gradients_and_edges():
    student, teacher, weight = said(2), said(2, 1), torch.rand(2, dtype=torch.float64)
    inputs = [one.requires_grad_() for one in student]
    assert gradcheck(lambda *own: tuple(matched_mask_distance(*own, *teacher, weight)), inputs)
    nothing = [one.requires_grad_() for one in said(0)]
    found = matched_mask_distance(*nothing, *said(0), weight[:0])
    sum(found).backward()
    assert [one.item() for one in found] == [0, 0, 0]
    assert matched_mask_distance(*said(2, dtype=torch.float32), *teacher, weight).masks.isfinite()
