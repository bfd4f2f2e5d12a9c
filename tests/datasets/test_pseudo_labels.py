"""Labels with scores: they stay with their boxes, whatever transforms do."""

from __future__ import annotations

import json

import pytest
import torch
from mmengine.registry import DATASETS, DefaultScope

from kddense.datasets import NamedDataset, PseudoLabels

BOXES = [(1, [4, 4, 20, 20], 0.25), (2, [30, 30, 16, 16], 0.875), (1, [0, 0, 0, 4], 0.5), (2, [8, 40, 12, 12], None)]


@pytest.fixture
def config(toy_data, tmp_path):
    """Return a function that gives the config of a data set of one image with some transforms."""
    file = tmp_path / 'annotations.json'
    boxes = [
        dict(id=number, image_id=0, category_id=one, bbox=box, area=box[2] * box[3], iscrowd=0)
        | ({} if score is None else dict(score=score))
        for number, (one, box, score) in enumerate(BOXES)
    ]
    contents = dict(
        images=[dict(id=0, file_name='0.png', height=64, width=64)],
        annotations=boxes,
        categories=[dict(id=1, name='a'), dict(id=2, name='b')],
    )
    file.write_text(json.dumps(contents))

    def data(*steps, **options):
        pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True), *steps]
        return dict(
            dict(
                type='CocoDataset',
                ann_file=str(file),
                data_prefix=dict(img=str(toy_data / 'images')),
                metainfo=dict(classes=('a', 'b')),
                pipeline=[*pipeline, dict(type='PackDetInputs')],
            ),
            **options,
        )

    with DefaultScope.overwrite_default_scope('mmdet'):
        yield data


def boxes_of(data):
    truth = data[0]['data_samples'].gt_instances
    return truth.labels.tolist(), truth.scores


def test_each_box_keeps_its_score(config):
    """One without a score counts in full; one without an area is left out, as the data set does."""
    labels, scores = boxes_of(PseudoLabels(config()))
    assert labels == [0, 1, 1]
    torch.testing.assert_close(scores, torch.tensor([0.25, 0.875, 1.0]), atol=1e-4, rtol=0)


def test_scores_follow_boxes_that_are_dropped(config):
    data = PseudoLabels(config(dict(type='RandomCrop', crop_size=(30, 30), allow_negative_crop=True)))
    drawn = [boxes_of(data) for _ in range(40)]
    assert len({len(labels) for labels, _ in drawn}) > 1
    pairs = {(label, round(score.item(), 3)) for one in drawn for label, score in zip(*one, strict=True)}
    assert pairs == {(0, 0.25), (1, 0.875), (1, 1.0)}


def test_classes_are_balanced_as_without_scores(config):
    plain, scored = config(), dict(type='kddense.PseudoLabels', dataset=config())
    own = [DATASETS.build(one).get_cat_ids(0) for one in (plain, scored)]
    assert own == [[0, 1, 1]] * 2
    balanced = [
        DATASETS.build(dict(type='ClassBalancedDataset', dataset=one, oversample_thr=0.9)) for one in (plain, scored)
    ]
    assert balanced[0].repeat_indices == balanced[1].repeat_indices


def test_within_others(config):
    """A name around it, mixed images inside of it."""
    named = NamedDataset(dict(type='kddense.PseudoLabels', dataset=config()), 'frames', classes=['b', 'c', 'a'])
    labels, scores = boxes_of(named)
    assert labels == [2, 0, 0]
    assert scores[0] == pytest.approx(0.25, abs=1e-4)
    both = dict(type='ConcatDataset', datasets=[config(), dict(type='kddense.PseudoLabels', dataset=config())])
    data = DATASETS.build(both)
    assert 'scores' not in data[0]['data_samples'].gt_instances
    assert 'scores' in data[1]['data_samples'].gt_instances


@pytest.mark.parametrize('score', [1.5, -0.1, 'high', float('nan')])
def test_what_is_no_score_is_one_sentence(config, score, tmp_path):
    file = tmp_path / 'annotations.json'
    contents = json.loads(file.read_text())
    contents['annotations'][1]['score'] = score
    file.write_text(json.dumps(contents))
    with pytest.raises(
        ValueError, match=r'^train_dataloader.dataset.dataset.ann_file has a score that is no .* annotation 1'
    ):
        PseudoLabels(config())


def test_other_data_sets_have_no_scores(toy_data):
    images = dict(type='kddense.UnlabelledImages', images=str(toy_data / 'images'))
    with pytest.raises(
        ValueError, match=r'^train_dataloader.dataset.dataset must be a CocoDataset, .* UnlabelledImages'
    ):
        PseudoLabels(images)
