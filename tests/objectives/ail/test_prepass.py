"""A pass over the training set: every image once, the teacher's own errors, what is refused."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from mmengine.config import Config

from kddense.objectives.ail.prepass import measure_teacher_errors
from kddense.objectives.ail.teacher_error import read_teacher_errors, write_teacher_errors

from ...helpers import tiny
from ...helpers.depth_estimators import depth_estimator


@pytest.fixture(scope='module')
def rooms(tmp_path_factory):
    """Five images of an NYU-like folder, and a config that learns from them with an untrained teacher."""
    import cv2

    root = tmp_path_factory.mktemp('rooms')
    for folder in ('images/train', 'depth/train'):
        (root / folder).mkdir(parents=True)
    for index in range(5):
        random = np.random.RandomState(index)
        cv2.imwrite(str(root / f'images/train/{index}.jpg'), random.randint(0, 255, (64, 64, 3)).astype(np.uint8))
        cv2.imwrite(str(root / f'depth/train/{index}.png'), random.randint(0, 9000, (64, 64)).astype(np.uint16))
    objectives = dict(
        imitation=dict(type='kddense.AttentiveDepthObjective', error_range='not measured yet.json', percentile=95),
        hint=dict(type='kddense.AttentiveDepthHintObjective', error_range='not measured yet.json'),
        pair=dict(type='kddense.PairWiseObjective'),
    )
    meta_keys = ('img_path', 'ori_shape', 'img_shape', 'pad_shape', 'scale_factor', 'flip', 'flip_direction')
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3),
        dict(type='PackSegInputs', meta_keys=meta_keys),
    ]
    return Config(
        dict(
            default_scope='mmseg',
            model=dict(
                type='kddense.Distiller',
                student=depth_estimator(),
                teacher=tiny.teacher_of(depth_estimator(), 'mmseg'),
                objectives=objectives,
            ),
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type='InfiniteSampler', shuffle=True),
                dataset=dict(
                    type='NYUDataset',
                    data_root=str(root),
                    data_prefix=dict(img_path='images/train', depth_map_path='depth/train'),
                    pipeline=pipeline,
                ),
            ),
        )
    )


@pytest.fixture
def measured(rooms):
    torch.manual_seed(0)
    return measure_teacher_errors(rooms)


def test_every_image_counts_once(measured):
    assert measured.count == 5
    assert 0 < measured.minimum < measured.maximum
    assert measured.measure == 'mean absolute difference of depth in the regressed space, per image'
    assert measured.teacher == 'untrained'
    assert measured.dataset.endswith('depth/train images/train')


@pytest.mark.parametrize('weight', [dict(value=1.0, start=100), dict(value=1.0, start=0.5), dict(value=1.0, stop=0.5)])
def test_when_an_objective_begins_does_not_matter(rooms, measured, weight):
    for objective in rooms.model.objectives.values():
        objective.weight = weight
    torch.manual_seed(0)
    assert measure_teacher_errors(rooms) == measured


def test_the_config_is_left_as_it_was(rooms, measured):
    assert rooms.model.objectives.imitation.error_range == 'not measured yet.json'
    assert rooms.train_dataloader.sampler.type == 'InfiniteSampler'


def test_the_training_takes_the_file(rooms, measured, tmp_path):
    write_teacher_errors(tmp_path / 'errors.json', measured)
    objective = dict(rooms.model.objectives.imitation, error_range=str(tmp_path / 'errors.json'))

    model = tiny.distiller(rooms.model.student, rooms.model.teacher, dict(it=objective), scope='mmseg')

    assert read_teacher_errors(tmp_path / 'errors.json') == measured
    span = model.objectives['it'].error_range(torch.zeros(1)).item()
    assert span == pytest.approx(measured.percentiles[95] - measured.minimum)
    model.objectives['it'].check_run(rooms.pretty_text, None)


def test_a_file_of_another_dataset_is_refused(rooms, measured, tmp_path):
    write_teacher_errors(tmp_path / 'errors.json', measured)
    objective = dict(rooms.model.objectives.imitation, error_range=str(tmp_path / 'errors.json'))
    model = tiny.distiller(rooms.model.student, rooms.model.teacher, dict(it=objective), scope='mmseg')
    other = copy.deepcopy(rooms)
    other.train_dataloader.dataset.data_prefix.img_path = 'images/other'

    with pytest.raises(
        ValueError, match="was measured for the dataset '.*images/train', and this run's is '.*images/other'"
    ):
        model.objectives['it'].check_run(other.pretty_text, None)


def test_a_config_that_needs_no_errors_is_refused(rooms):
    config = copy.deepcopy(rooms)
    config.model.objectives = dict(pair=dict(type='kddense.PairWiseObjective'))

    with pytest.raises(ValueError, match='no objective of this config needs the errors of a teacher'):
        measure_teacher_errors(config)
    with pytest.raises(ValueError, match="objective must be one of imitation, hint, got 'pair'"):
        measure_teacher_errors(rooms, 'pair')
