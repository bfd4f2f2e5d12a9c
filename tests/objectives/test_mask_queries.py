"""Masks of queries of Mask2Former and MaskFormer, of mmdet and of mmseg, matched with the teacher's."""

import itertools

import pytest
import torch
from mmengine.structures import PixelData
from torch import nn
from torch.autograd import gradcheck
from torch.nn import functional as F

from kddense.losses import dice_distance, match_masks, matched_mask_distance
from kddense.objectives import MaskQueryObjective
from kddense.views import MaskFormerView, MaskSegmentorView

from ..helpers import mask_models, plugins, tiny
from ..helpers.two_processes import in_two_processes

OBJECTIVE = dict(type='kddense.MaskQueryObjective')
NAMES = ('loss_cls', 'loss_mask', 'loss_dice')


MODELS = {
    'mask2former': ('mmdet', mask_models.mask2former),
    'maskformer': ('mmdet', mask_models.maskformer),
    'mask2former of mmseg': ('mmseg', mask_models.mask_segmentor),
    'maskformer of mmseg': ('mmseg', mask_models.old_mask_segmentor),
}
EVERY = pytest.mark.parametrize('name', MODELS)
HEADS = dict(mmdet=('panoptic_head', MaskFormerView), mmseg=('decode_head', MaskSegmentorView))


def data_of(**options):
    data = tiny.detection_data(masks=True, **options)
    for sample in data['data_samples']:
        sample.gt_sem_seg = PixelData(sem_seg=torch.zeros(1, *sample.img_shape, dtype=torch.long))
    return data


DATA = data_of()
PIXELS = tiny.segmentation_data()
OF = dict(mmdet=DATA, mmseg=PIXELS)


def distiller(student, teacher=None, objective=OBJECTIVE, scope='mmdet', **options):
    teacher = tiny.teacher_of(student if teacher is None else teacher, scope, **options)
    return tiny.distiller(student, teacher, dict(x=objective), scope)


def own_losses(losses):
    return {name.removeprefix('distill.x.'): value for name, value in losses.items() if name.startswith('distill.x.')}


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@EVERY
def test_masks_are_learned(name, precision):
    scope, build = MODELS[name]
    student, data, (head, view) = build(), OF[scope], HEADS[scope]
    model = distiller(student, scope=scope, precision=precision)
    assert type(model.student_view) is view
    found = plugins.gradients(model, data)
    assert {'backbone', head} <= {key.partition('.')[0] for key in found}
    assert set(own_losses(tiny.step(model, data))) == set(NAMES)
    plugins.train(model, data, lr=1e-4)
    plugins.assert_contracts(model, student, scope)


@EVERY
def test_twins_agree(name):
    scope, build = MODELS[name]
    model = distiller(build(), scope=scope)
    assert any(float(value) > 1e-3 for value in own_losses(tiny.step(model, OF[scope])).values())
    plugins.make_twins(model)
    losses = own_losses(plugins.losses_of(model, OF[scope]))
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


def test_of_mmseg_the_pixel_decoder_and_auxiliary_heads_are_there_too():
    """Beside the masks, whose head speaks of no pixels."""
    auxiliary = dict(type='FCNHead', in_channels=128, in_index=2, channels=8, num_convs=1, num_classes=19)
    student = mask_models.mask_segmentor({'auxiliary_head': auxiliary})
    tapped = dict(type='kddense.FeatureObjective', tap='decode_head.pixel_decoder', levels=[0])
    soft = dict(type='kddense.DISTObjective', on='auxiliary_head')
    model = tiny.distiller(
        student, mask_models.mask_segmentor({'auxiliary_head': auxiliary}), dict(x=OBJECTIVE, y=tapped, z=soft), 'mmseg'
    )
    losses = tiny.step(model, PIXELS)
    assert all(float(losses[f'distill.{name}']) > 0 for name in ('x.loss_mask', 'y.loss', 'z.loss'))
    tiny.total(losses).backward()
    plugins.assert_contracts(model, student, 'mmseg')
    with pytest.raises(ValueError, match='decode_head is a Mask2FormerHead, which gives no class scores per pixel'):
        tiny.distiller(student, mask_models.mask_segmentor(), dict(x=dict(type='kddense.DISTObjective')), 'mmseg')


def test_of_mmseg_images_of_other_sizes_are_read_as_mmseg_reads_them():
    """Its MaskFormer takes the first image for as large as the batch, as a student and so as a teacher."""
    small, large = tiny.segmentation_data(size=(32, 60), count=1), tiny.segmentation_data(count=1)
    data = {key: small[key] + large[key] for key in small}
    model = distiller(mask_models.old_mask_segmentor(), scope='mmseg')
    plugins.make_twins(model)
    losses = own_losses(plugins.losses_of(model, data))
    assert all(abs(float(value)) < 1e-5 for value in losses.values()), losses


def test_pixels_without_any_label_are_served():
    data = tiny.segmentation_data()
    for sample in data['data_samples']:
        sample.gt_sem_seg.data.fill_(255)
    losses = tiny.step(distiller(mask_models.mask_segmentor(), scope='mmseg'), data)
    assert all(value.isfinite() for value in own_losses(losses).values())
    tiny.total(losses).backward()


def sampled(data, rank=None):
    """Return the gradients of a student from the objective alone, of a whole batch or of one of two halves."""
    model = distiller(mask_models.mask_segmentor(), scope='mmseg').train()
    for norm in filter(lambda one: isinstance(one, nn.BatchNorm2d), model.student.modules()):
        norm.eval()
    part = data if rank is None else {key: one[rank::2] for key, one in data.items()}
    losses = own_losses(plugins.losses_of(model, part))
    sum(losses.values()).backward()
    return {name: one.grad for name, one in model.student.named_parameters() if one.grad is not None}


def test_two_processes_with_half_the_batch_are_one_with_the_whole(tmp_path):
    data = tiny.segmentation_data(count=4)
    whole = sampled(data)
    first, second = in_two_processes(lambda rank: sampled(data, rank), tmp_path)
    assert whole.keys() == first.keys() == second.keys()
    for name, value in whole.items():
        torch.testing.assert_close((first[name] + second[name]) / 2, value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize('name', ['mask2former', 'mask2former of mmseg'])
def test_a_student_in_bf16_learns_in_float32(name):
    """Under autocast as a run with AMP has it."""
    scope, build = MODELS[name]
    model = distiller(build(), scope=scope)
    with torch.autocast('cpu', torch.bfloat16):
        losses = own_losses(tiny.step(model, OF[scope]))
    exact = own_losses(tiny.step(model, OF[scope]))
    assert all(value.dtype == torch.float32 for value in losses.values())
    for term, value in losses.items():
        torch.testing.assert_close(value, exact[term], rtol=0.3, atol=0.05)


def test_of_mmseg_unlabelled_images_are_refused():
    data = tiny.segmentation_data()
    data['data_samples'][0].set_metainfo(dict(unlabelled=True))
    student = mask_models.mask_segmentor()
    with pytest.raises(ValueError, match='has no masks of queries of unlabelled images, as its heads sample by labels'):
        tiny.step(distiller(student, scope='mmseg'), data)
    with pytest.raises(
        ValueError, match='Mask2FormerHead, which makes masks of .* every image: .* beside labelled ones'
    ):
        tiny.step(tiny.distiller(student, student, {}, 'mmseg'), data)


@pytest.mark.parametrize('boxes', [((), ()), ((), tiny.BOXES)], ids=['none', 'in one image'])
def test_images_without_instances_are_served(boxes):
    losses = tiny.step(distiller(mask_models.mask2former()), data_of(boxes=boxes))
    assert all(value.isfinite() for value in own_losses(losses).values())
    tiny.total(losses).backward()


@pytest.mark.parametrize('count', [5, 11])
def test_another_number_of_queries_and_masks_of_another_size(count):
    """The fewer are all matched; masks of the teacher's larger image are resized to the student's."""
    teacher = tiny.edit(mask_models.mask2former(), {'panoptic_head.num_queries': count})
    model = distiller(mask_models.mask2former(), teacher, input_scale=2.0)
    losses = own_losses(tiny.step(model, DATA))
    assert all(0 < float(value) < float('inf') for value in losses.values())
    plugins.train(model, DATA, lr=1e-4)


def test_what_cannot_be_compared_is_named():
    deep = {'panoptic_head.transformer_decoder.num_layers': 3}
    with pytest.raises(ValueError, match=r'speaks 3 times, that of the teacher 4 times, .* set layers='):
        distiller(mask_models.mask2former(), tiny.edit(mask_models.mask2former(), deep))
    last = dict(OBJECTIVE, layers='last')
    tiny.step(distiller(mask_models.mask2former(), tiny.edit(mask_models.mask2former(), deep), last), DATA)
    with pytest.raises(ValueError, match=r'num_classes \(things and stuff\): 3 in the student, 133 in the teacher'):
        distiller(mask_models.mask2former(), mask_models.maskformer())
    with pytest.raises(ValueError, match='the masks: one for each class in the student, one for each instance in'):
        tiny.distiller(
            mask_models.mask_segmentor(), tiny.teacher_of(mask_models.mask2former()), dict(x=OBJECTIVE), 'mmseg'
        )
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
