"""Trainings that the tests of an export look at."""

from __future__ import annotations

import pytest

from ..helpers.export_runs import TrainedRun, train


@pytest.fixture(scope='session')
def detector_run(detector, tmp_path_factory) -> TrainedRun:
    """Three epochs of Faster R-CNN with an average of its weights."""
    return train(detector, tmp_path_factory.mktemp('detector_run'), dict(type='EMAHook', momentum=0.1))


@pytest.fixture(scope='session')
def segmentor_run(structured, tmp_path_factory) -> TrainedRun:
    """Twelve iterations of PSPNet, with a discriminator that has an optimiser of its own."""
    return train(structured, tmp_path_factory.mktemp('segmentor_run'))


@pytest.fixture(scope='session')
def depth_run(depth, tmp_path_factory) -> TrainedRun:
    """Four iterations of a depth estimator, whose head is kddense's."""
    return train(depth, tmp_path_factory.mktemp('depth_run'), train_cfg__max_iters=4)
