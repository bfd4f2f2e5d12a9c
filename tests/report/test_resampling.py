"""Drawing images again: COCO's own figures for each image once, and those of a data set that holds some twice."""

import contextlib
import io
import json

import numpy as np
import pytest
from mmdet.evaluation import CocoMetric
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kddense.report.image_scores import BoxScores
from kddense.report.resampling import Detections, interval, iou_of, mean_over_classes, times_drawn

IMAGES, CLASSES = 6, 2


def random_boxes(draw, count):
    corners = draw.uniform(0, 100, (count, 2))
    return np.concatenate([corners, draw.uniform(10, 60, (count, 2))], axis=1)


@pytest.fixture
def truth_and_found():
    """Objects and detections of some images; of one class an image lacks objects, and one object is a group."""
    draw = np.random.default_rng(0)
    objects, found = [], []
    for image in range(IMAGES):
        for category in range(1, CLASSES + 1):
            boxes = random_boxes(draw, 0 if image == category else draw.integers(1, 4))
            for box in boxes:
                objects.append(dict(image=image, category=category, box=box, group=int(draw.random() < 0.15)))
            near = boxes + draw.normal(0, 3, boxes.shape)
            for box in np.concatenate([near, random_boxes(draw, 3)]):
                found.append(dict(image=image, category=category, box=box, score=draw.random()))
    return objects, found


def evaluated(objects, found, times):
    """Let COCO's own code measure a data set that holds each image so many times; return the evaluation."""
    copies = [(image, copy) for image in range(IMAGES) for copy in range(times[image])]
    numbers = {pair: index + 1 for index, pair in enumerate(copies)}
    truth, detections = [], []
    for (image, _), number in numbers.items():
        for one in objects:
            if one['image'] == image:
                box = list(map(float, one['box']))
                extra = dict(id=len(truth) + 1, area=box[2] * box[3], iscrowd=one['group'])
                truth.append(dict(image_id=number, category_id=one['category'], bbox=box, **extra))
        for one in found:
            if one['image'] == image:
                box = list(map(float, one['box']))
                detections.append(dict(image_id=number, category_id=one['category'], bbox=box, score=one['score']))
    coco = COCO()
    coco.dataset = dict(
        info={},
        images=[dict(id=number, width=200, height=200) for number in numbers.values()],
        categories=[dict(id=number, name=str(number)) for number in range(1, CLASSES + 1)],
        annotations=truth,
    )
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(detections), 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def test_average_precision_is_coco_s_for_any_draw(truth_and_found):
    once = evaluated(*truth_and_found, [1] * IMAGES)
    for times in ([1] * IMAGES, [2, 0, 1, 3, 1, 1], [0, 1, 0, 0, 2, 3]):
        expected = evaluated(*truth_and_found, times).eval[
            'precision'
        ]  # IoUs, recalls, classes, sizes, most detections
        for category in range(CLASSES):
            for size in range(4):
                start = (category * 4 + size) * IMAGES
                one = Detections.of(once.evalImgs[start : start + IMAGES], 10)
                (measured,) = one.average_precision(np.array([times], float))
                stock = expected[:, :, category, size, -1]
                if (stock == -1).all():
                    assert np.isnan(measured).all()
                else:
                    np.testing.assert_allclose(measured, stock.mean(axis=1), atol=1e-12)


def test_objects_without_a_single_detection_are_missed():
    one = Detections.of([dict(gtIgnore=np.zeros(2), dtScores=[]), None], 10)
    assert one.average_precision(np.array([[1.0, 1.0], [0.0, 2.0]]))[0].tolist() == [0.0] * 10
    assert np.isnan(one.average_precision(np.array([[0.0, 2.0]]))).all()


def test_every_draw_has_as_many_images():
    times = times_drawn(7, draws=50)
    assert times.shape == (50, 7)
    assert (times.sum(axis=1) == 7).all()
    assert (times != times[0]).any()
    assert (times == times_drawn(7, draws=50)).all()  # always the same ones


def test_iou_is_that_of_all_pixels_together():
    intersect, union = np.array([[1.0, 0.0], [3.0, 0.0]]), np.array([[2.0, 0.0], [4.0, 0.0]])
    scores = iou_of(np.array([[1.0, 1.0], [2.0, 0.0]]), intersect, union)
    np.testing.assert_allclose(scores, [[400 / 6, np.nan], [50, np.nan]])
    np.testing.assert_allclose(mean_over_classes(scores), [400 / 6, 50])


def test_the_interval_leaves_out_five_in_a_hundred():
    assert interval(np.arange(1001.0)) == (25.0, 975.0)
    assert interval(np.array([np.nan, 1.0])) == (1.0, 1.0)
    assert interval(np.array([np.nan])) is None


def test_classes_keep_their_names_whatever_their_order_in_the_annotations(tmp_path):
    annotations = [
        dict(id=number, image_id=1, category_id=number, bbox=[40.0 * number, 0.0, 20.0, 20.0], area=400.0, iscrowd=0)
        for number in (1, 2)
    ]
    categories = [dict(id=2, name='b'), dict(id=1, name='a')]
    images = [dict(id=1, width=200, height=200, file_name='1.png')]
    file = tmp_path / 'truth.json'
    file.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    metric = CocoMetric(ann_file=str(file), metric='bbox')
    metric.dataset_meta = dict(classes=('b', 'a'))
    metric.cat_ids = metric._coco_api.get_cat_ids(cat_names=metric.dataset_meta['classes'])
    metric.img_ids = [1]
    found = dict(img_id=1, bboxes=np.array([[80.0, 0, 100, 20]]), scores=np.array([0.9]), labels=np.array([0]))

    by_class = BoxScores.of(metric, [found]).by_class(np.ones((1, 1)))

    assert {name: float(value[0]) for name, value in by_class.items()} == {'b': 100.0, 'a': 0.0}
