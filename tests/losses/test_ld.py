"""Localization distillation: the worked example, loops, mmdet's own loss and assigner, the valuable region by hand."""

import numpy as np
import pytest
import torch

from kddense.losses import LDLoss, atss_thresholds, localization_distillation, valuable_region

TEACHER = torch.tensor([[0.0, 2, 0]])
STUDENT = torch.tensor([[0.0, 1, 1]])
MODES = pytest.mark.parametrize('mode', ['paper', 'code'])


def distributions(boxes=5, bins=17, dtype=torch.float64):
    return 4 * torch.randn(2, boxes, 4, bins, generator=torch.Generator().manual_seed(0), dtype=dtype)


def grid(size=64, strides=(8, 16), scale=4):
    """Return anchors as ATSS and GFL have them, one per cell, and how many each level has."""
    levels = []
    for stride in strides:
        corner = torch.arange(0, size, stride)
        y, x = (axis.flatten() for axis in torch.meshgrid(corner, corner, indexing='ij'))
        levels.append(torch.stack([x, y, x, y], dim=1) + scale * stride * torch.tensor([-0.5, -0.5, 0.5, 0.5]))
    return torch.cat(levels).float(), [len(level) for level in levels]


BOXES = torch.tensor([[4.0, 6, 40, 38], [20, 20, 60, 62], [30, 3, 47, 25]])


@pytest.mark.parametrize('mode, value', [('paper', 0.343339), ('code', 0.114446)])
def test_the_worked_example(mode, value):
    assert localization_distillation(STUDENT.double(), TEACHER.double(), mode=mode).item() == pytest.approx(
        value, rel=5e-6
    )


def test_agrees_with_a_loop():
    student, teacher = distributions()
    expected = []
    for own_box, other_box in zip(student.numpy(), teacher.numpy(), strict=True):
        edges = []
        for own, other in zip(own_box, other_box, strict=True):
            p, q = (np.exp(side / 10) / np.exp(side / 10).sum() for side in (other, own))
            edges.append(100 * (p * np.log(p / q)).sum())
        expected.append(np.mean(edges))
    np.testing.assert_allclose(localization_distillation(student, teacher), expected, rtol=1e-10)
    weight = torch.arange(5, dtype=torch.float64)
    weighted = LDLoss()(student, teacher, weight, avg_factor=3)
    np.testing.assert_allclose(weighted, (np.arange(5) * expected).sum() / 3, rtol=1e-10)
    np.testing.assert_allclose(LDLoss()(student, teacher), np.mean(expected), rtol=1e-10)


@pytest.mark.parametrize('temperature', [1, 2, 10])
def test_agrees_with_mmdet(temperature):
    """Value and gradient of what mmdet's LD head calls: one row per edge, averaged over boxes and edges."""
    from mmdet.models.losses import KnowledgeDistillationKLDivLoss

    student, teacher = distributions(dtype=torch.float32)
    weight = torch.rand(5, generator=torch.Generator().manual_seed(1))
    ours, theirs = (student.clone().requires_grad_() for _ in range(2))
    own = LDLoss(temperature, mode='code')(ours, teacher, weight, avg_factor=1.0)
    other = KnowledgeDistillationKLDivLoss(T=temperature)(
        theirs.reshape(-1, 17), teacher.reshape(-1, 17), weight.repeat_interleave(4), avg_factor=4.0
    )
    own.backward()
    other.backward()
    torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


@MODES
def test_gradient_is_exact(mode):
    student, teacher = distributions(boxes=2, bins=5)
    loss = LDLoss(temperature=2.0, mode=mode)
    weight = torch.tensor([0.3, 0.9], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher, weight), student.requires_grad_())


def test_only_the_student_learns():
    student, teacher = (side.clone().requires_grad_() for side in distributions())
    weight = torch.ones(5, dtype=torch.float64, requires_grad=True)
    LDLoss()(student, teacher, weight).backward()
    assert teacher.grad is None
    assert weight.grad is None
    assert student.grad.any()


@MODES
def test_no_boxes_is_a_zero_that_back_propagates(mode):
    student = torch.zeros(0, 4, 17, requires_grad=True)
    value = LDLoss(mode=mode)(student, torch.zeros(0, 4, 17), torch.zeros(0))
    value.backward()
    assert value.item() == 0
    assert student.grad.shape == (0, 4, 17)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    student, teacher = distributions(64).to(dtype)
    expected = LDLoss()(student.double(), teacher.double())
    student.requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = LDLoss()(student, teacher.float())
    value.backward()
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=0)
    assert student.grad.isfinite().all()


def test_thresholds_by_hand():
    """One level of two anchors, one of one: IoUs 1, 0 and 1/4."""
    anchors = torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8], [0, 0, 16, 16]])
    threshold = atss_thresholds(anchors, torch.tensor([[0.0, 0, 8, 8]]), [2, 1])
    np.testing.assert_allclose(threshold, [np.mean([1, 0, 0.25]) + np.std([1, 0, 0.25], ddof=1)], rtol=1e-6)
    nearest = atss_thresholds(anchors, torch.tensor([[0.0, 0, 8, 8]]), [2, 1], topk=1)
    np.testing.assert_allclose(nearest, [np.mean([1, 0.25]) + np.std([1, 0.25], ddof=1)], rtol=1e-6)


@pytest.mark.parametrize('topk', [3, 9])
def test_thresholds_are_those_of_mmdets_assigner(topk):
    """It assigns the candidates inside a box whose IoU reaches the threshold, and no others."""
    from mmdet.models.task_modules.assigners import ATSSAssigner
    from mmengine.registry import DefaultScope
    from mmengine.structures import InstanceData
    from torchvision.ops import box_iou

    anchors, counts = grid()
    truth = InstanceData(bboxes=BOXES, labels=torch.zeros(3, dtype=torch.long))
    with DefaultScope.overwrite_default_scope('mmdet'):  # an earlier test may have left another
        assigner = ATSSAssigner(topk=topk)
    assigned = assigner.assign(InstanceData(priors=anchors), counts, truth).gt_inds
    thresholds = atss_thresholds(anchors, BOXES, counts, topk)
    overlaps = box_iou(anchors, BOXES)
    near = torch.stack([candidates(anchors, counts, box, topk) for box in BOXES], dim=1)
    centres = (anchors[:, None, :2] + anchors[:, None, 2:]) / 2
    within = ((centres > BOXES[:, :2]) & (centres < BOXES[:, 2:])).all(dim=2)
    positive = near & within & (overlaps >= thresholds)
    assert torch.equal(assigned > 0, positive.any(dim=1))
    assert 0 < positive.sum() < (near & within).sum()


def candidates(anchors, counts, box, topk):
    centres, centre = (anchors[:, :2] + anchors[:, 2:]) / 2, (box[:2] + box[2:]) / 2
    chosen = torch.zeros(len(anchors), dtype=torch.bool)
    start = 0
    for count in counts:
        distance = (centres[start : start + count] - centre).norm(dim=1)
        chosen[start + distance.topk(min(topk, count), largest=False).indices] = True
        start += count
    return chosen


def test_the_region_by_hand():
    """DIoU is IoU less (distance of centres / diagonal of the hull)²; the first anchor is above the band."""
    box = torch.tensor([[0.0, 0, 8, 8]])
    anchors = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 4], [0, 0, 8, 1], [4, 0, 12, 8], [20, 0, 28, 8]])
    overlaps = [1, 0.5, 0.125, 1 / 3, 0]
    distances = [1, 0.5 - 4 / 128, 0.125 - 12.25 / 128, 1 / 3 - 16 / 208, 0 - 400 / 848]
    inside = [0.25 * 0.6 <= distance < 0.6 for distance in distances]
    assert inside == [False, True, False, True, False]
    region = valuable_region(anchors, box, torch.tensor([0.6]))
    np.testing.assert_allclose(region, np.multiply(overlaps, inside), atol=1e-6)
    wider = valuable_region(anchors, box, torch.tensor([0.6]), low=0.04)
    np.testing.assert_allclose(wider, [0, 0.5, 0.125, 1 / 3, 0], atol=1e-6)


def test_of_several_boxes_the_greatest_overlap_counts():
    anchors, counts = grid()
    thresholds = atss_thresholds(anchors, BOXES, counts)
    together = valuable_region(anchors, BOXES, thresholds)
    alone = [valuable_region(anchors, BOXES[i : i + 1], thresholds[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.stack(alone).amax(0))
    assert all(0 < (region > 0).sum() < len(anchors) for region in alone)


def test_an_image_without_boxes_has_no_region():
    anchors, counts = grid()
    nothing = torch.zeros(0, 4)
    thresholds = atss_thresholds(anchors, nothing, counts)
    assert thresholds.shape == (0,)
    assert not valuable_region(anchors, nothing, thresholds).any()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r'one shape, got \(1, 3\), \(1, 2\)'):
        localization_distillation(STUDENT, TEACHER[:, :2])
    with pytest.raises(ValueError, match=r'shape \(..., edges, n \+ 1\), got \(3,\)'):
        localization_distillation(STUDENT[0], TEACHER[0])
    with pytest.raises(ValueError, match='temperature must be above 0'):
        LDLoss(temperature=0)
    with pytest.raises(ValueError, match="mode must be one of 'paper', 'code', got 'sum'"):
        LDLoss(mode='sum')
    with pytest.raises(ValueError, match=r'boxes and weight must have one shape, got \(5,\), \(4,\)'):
        LDLoss()(*distributions(), torch.ones(4))
    anchors, counts = grid()
    with pytest.raises(ValueError, match=r'level_anchors must add up to the 80 anchors, got \[64\]'):
        atss_thresholds(anchors, BOXES, counts[:1])
    with pytest.raises(ValueError, match=r'anchors must be rows \(x1, y1, x2, y2\), got shape \(80, 2\)'):
        atss_thresholds(anchors[:, :2], BOXES, counts)
    with pytest.raises(ValueError, match=r'thresholds must have shape \(3,\), one per box, got \(2,\)'):
        valuable_region(anchors, BOXES, torch.ones(2))
    with pytest.raises(ValueError, match='low must lie between 0 and 1, got 1'):
        valuable_region(anchors, BOXES, torch.ones(3), low=1)
