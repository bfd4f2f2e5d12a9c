"""kddense distill: from two configs to a report, again, and what it refuses."""

from __future__ import annotations

import re

import pytest
import torch
from mmengine.config import Config

from kddense.apps.distill import command

EXPECTED = {
    'detector': ('two-stage detector', 'chen2017'),
    'one_stage': ('one-stage detector', 'pkd_one_stage'),
    'segmentor': ('segmentor', 'cwd'),
    'depth': ('depth estimator', 'ail_depth'),
}


@pytest.mark.parametrize('name', EXPECTED)
def test_it_writes_a_config_for_each_family(name, request, distillation):
    task = request.getfixturevalue(name)
    made = distillation(task, test_teacher=False)
    choice = made.prepare()

    family, recipe = EXPECTED[name]
    assert choice.recipe == recipe
    assert family in made.said[0]
    assert family in made.said[1]
    plain, distilled = (Config.fromfile(made.folder.path / file) for file in ('plain.py', 'distilled.py'))
    assert plain.model == task.plain().model
    assert distilled.model.student == plain.model
    assert distilled.model.teacher == task.teacher
    assert distilled.train_dataloader == plain.train_dataloader
    assert not task.build(plain.model).state_dict().keys() ^ task.build(distilled.model).state_dict().keys()
