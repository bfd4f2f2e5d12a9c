"""Which boxes are left: values by hand, and mmcv's ``batched_nms`` on random boxes."""

from __future__ import annotations

import pytest
import torch
from mmcv.ops import batched_nms

from kddense.export.detectors.base import Level, clip, sizes_of
from kddense.export.detectors.suppression import Suppression

BOXES = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [21, 20, 31, 30]])


def level(scores, boxes=BOXES, **options):
    return Level(boxes[None, :, None], torch.tensor(scores)[None], **options)


def kept(suppression, *levels):
    boxes, scores, labels = suppression(levels)
    return [
        (tuple(box), round(score, 4), label)
        for box, score, label in zip(boxes[0].tolist(), scores[0].tolist(), labels[0].tolist(), strict=True)
    ]


def test_by_hand():
    """The second overlaps the first by 0.9; the fourth overlaps the third by 9/11, but is of another class."""
    one = level([[0.9, 0.0], [0.8, 0.0], [0.6, 0.0], [0.0, 0.7]])
    found = kept(Suppression(overlap=0.5, most=5), one)
    assert found == [
        ((0, 0, 10, 10), 0.9, 0),
        ((21, 20, 31, 30), 0.7, 1),
        ((20, 20, 30, 30), 0.6, 0),
        ((0, 0, 0, 0), 0.0, -1),
        ((0, 0, 0, 0), 0.0, -1),
    ]
    assert kept(Suppression(overlap=0.5, most=1), one) == found[:1]
    assert kept(Suppression(overlap=0.5, most=2, by_class=False), one) == found[:2]
    assert kept(Suppression(overlap=0.5, most=3, by_class=False), one)[2][2] == -1
    assert [row[1] for row in kept(Suppression(overlap=0.95, most=4), one)] == [0.9, 0.8, 0.7, 0.6]


def test_what_is_not_looked_at():
    scores = [[0.9], [0.8], [0.6], [0.7]]
    assert [row[1] for row in kept(Suppression(overlap=0.5, most=4, least_score=0.65), level(scores))] == [
        0.9,
        0.7,
        0,
        0,
    ]
    assert [row[1] for row in kept(Suppression(overlap=0.5, most=4, least_side=9.5), level(scores))] == [0.9, 0.7, 0, 0]
    assert [row[1] for row in kept(Suppression(overlap=0.5, most=4, least_side=10.0), level(scores))] == [0] * 4
    assert [row[1] for row in kept(Suppression(overlap=0.5, most=4, before=2), level(scores))] == [0.9, 0.0]


def test_factors_come_after_the_choice():
    """By the scores the first two are chosen, by the products the second wins, though it is below the threshold now."""
    one = level([[0.9], [0.8], [0.6], [0.7]], factors=torch.tensor([[0.1, 0.5, 1.0, 1.0]]))
    found = kept(Suppression(overlap=0.5, most=4, before=2, least_score=0.5), one)
    assert [row[1] for row in found] == [0.4, 0.0]


def test_levels_of_proposals_leave_each_other_alone():
    levels = [level([[0.9], [0.0], [0.0], [0.0]]), level([[0.0], [0.8], [0.0], [0.0]])]
    settings = dict(overlap=0.5, most=4)
    assert [row[1] for row in kept(Suppression(**settings), *levels)] == [0.9, 0, 0, 0]
    proposals = Suppression(**settings, by_level=True)
    assert [row[1] for row in kept(proposals, *levels)] == [0.9, 0.8, 0, 0]


@pytest.mark.parametrize('agnostic', [False, True])
def test_as_mmcv_on_random_boxes(agnostic):
    random = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 80, 2, generator=random) * 60
    boxes = torch.cat([corners, corners + 5 + torch.rand(2, 80, 2, generator=random) * 30], dim=-1)
    scores = torch.rand(2, 80, 3, generator=random)
    suppression = Suppression(overlap=0.4, most=30, least_score=0.3, by_class=not agnostic)
    found = suppression([Level(boxes[:, :, None], scores)])
    for index, (box, score, label) in enumerate(zip(*found, strict=True)):
        valid, classes = (scores[index] > 0.3).nonzero(as_tuple=True)
        config = dict(type='nms', iou_threshold=0.4, class_agnostic=agnostic)
        own, keep = batched_nms(boxes[index, valid], scores[index, valid, classes], classes, config)
        torch.testing.assert_close(torch.cat([box, score[:, None]], dim=1)[: len(own)], own[:30])
        assert label.tolist() == classes[keep][:30].tolist() + [-1] * max(30 - len(own), 0)


def test_settings_of_mmdet():
    config = dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100
    )
    expected = Suppression(overlap=0.5, most=100, before=1000, least_score=0.05, least_side=0.0)
    assert Suppression.of(config, 'model.test_cfg') == expected
    assert Suppression.of(config, 'rpn', by_level=True).least_score == 0.0  # a region proposal network has no threshold


@pytest.mark.parametrize('nms', [None, dict(type='soft_nms', iou_threshold=0.5), dict(iou_threshold=0.5, max_num=3)])
def test_other_suppression_is_refused(nms):
    with pytest.raises(RuntimeError, match=r"^model\.test_cfg\.nms: ONNX has plain .* set type='nms'"):
        Suppression.of(dict(nms=nms, max_per_img=100), 'model.test_cfg')


def test_corners_outside_of_images():
    boxes = torch.tensor([[[-5.0, 3, 30, 40]], [[-5.0, 3, 30, 40]]])
    assert clip(boxes, torch.tensor([[20.0, 10.0], [50, 60]])).tolist() == [[[0, 3, 10, 20]], [[0, 3, 30, 40]]]
    assert sizes_of(torch.zeros(2, 3, 4, 5)).tolist() == [[4, 5], [4, 5]]
