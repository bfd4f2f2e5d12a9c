"""Pictures: what is drawn is where it should be, in the colour that it should have."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from kddense.report import Boxes, draw_boxes, draw_classes, draw_depth, draw_heat, side_by_side
from kddense.report.pictures import COLOURS, heat, mark, palette_of, widened

GREY = np.full((120, 240, 3), 90, np.uint8)


def test_a_small_image_is_enlarged_with_its_boxes():
    boxes = Boxes(np.array([[60.0, 50.0, 120.0, 100.0]]), np.array([1]))
    picture = draw_boxes(GREY, boxes, ['car', 'bus'])
    assert picture.shape == (240, 480, 3)
    np.testing.assert_array_equal(picture[150, 120], COLOURS[1])  # left edge, twice as far out
    np.testing.assert_array_equal(picture[200, 180], COLOURS[1])  # bottom edge
    np.testing.assert_array_equal(picture[150, 180], GREY[0, 0])  # inside


def test_a_large_image_keeps_its_size_and_is_not_drawn_into():
    image = np.zeros((10, 500, 3), np.uint8)
    picture = draw_boxes(image, Boxes(np.array([[0, 0, 9, 9]]), np.array([9])), ['car'])
    assert picture.shape == image.shape
    assert picture.any()
    assert not image.any()


def test_no_box_leaves_the_image_as_it_is():
    none = Boxes(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))
    np.testing.assert_array_equal(draw_boxes(GREY, none, ['car']), widened(GREY))


def test_only_predictions_above_the_threshold_are_kept():
    instances = InstanceData(
        bboxes=torch.eye(3, 4), scores=torch.tensor([0.2, 0.3, 0.9]), labels=torch.tensor([0, 1, 2])
    )
    boxes = Boxes.predicted(instances, 0.3)
    assert boxes.labels.tolist() == [1, 2]
    np.testing.assert_allclose(boxes.scores, [0.3, 0.9], rtol=1e-6)
    assert boxes.corners.shape == (2, 4)


def test_classes_are_laid_over_the_image_and_unknown_labels_stay_bare():
    labels = np.array([[0, 1], [255, 1]])
    picture = draw_classes(np.zeros((480, 480, 3), np.uint8), labels, [[100, 0, 0], [0, 200, 0]])
    assert picture[10, 10].tolist() == [70, 0, 0]
    assert picture[400, 400].tolist() == [0, 140, 0]
    assert picture[400, 10].tolist() == [0, 0, 0]


def test_depths_share_one_scale():
    depth = np.full((240, 480), 2.0)
    depth[:, 240:] = 0
    picture = draw_depth(depth, near=1.0, far=4.0)
    assert picture[:, 240:].max() == 0  # not known
    np.testing.assert_array_equal(picture[0, 0], heat(np.full((1, 1), 0.5))[0, 0])  # half way, on a logarithmic scale


def test_heat_grows_brighter():
    brightness = heat(np.linspace(0, 1, 9)[None]).astype(int).sum(-1)[0]
    assert (np.diff(brightness) > 0).all()
    assert draw_heat(GREY, np.eye(3)).shape == (240, 480, 3)


def test_a_mark_is_where_the_place_is():
    changed = np.argwhere((mark(GREY, (0.5, 0.25)) != GREY).any(-1))
    np.testing.assert_allclose(changed.mean(0), [60, 60], atol=1)


def test_side_by_side_takes_one_height():
    row = side_by_side({'teacher': np.zeros((100, 200, 3), np.uint8), 'student': np.full((50, 100, 3), 255, np.uint8)})
    assert row.shape[:2] == (50 + 26, 200)
    assert not row[26:, :100].any()
    assert (row[26:, 100:] == 255).all()


@pytest.mark.parametrize('palette, expected', [([[1, 2, 3], [4, 5, 6]], [4, 5, 6]), ([[1, 2, 3]], COLOURS[1].tolist())])
def test_a_palette_with_too_few_colours_is_replaced(palette, expected):
    assert palette_of(dict(palette=palette), 2)[1] == expected
