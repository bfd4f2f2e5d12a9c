"""A run that was killed in its last validation gets it when it is resumed; one with steps left is validated as ever."""

from __future__ import annotations

import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from kddense.apps.train import train


@pytest.fixture
def validated():
    """The iterations after which runs were validated."""
    seen = []

    class Noting(Hook):
        def after_val_epoch(self, runner, metrics=None):
            assert metrics
            seen.append(runner.iter)

    HOOKS.register_module(name='Noting', module=Noting, force=True)
    yield seen
    HOOKS.module_dict.pop('Noting')


@pytest.mark.parametrize(
    'family, length, longer',
    [
        ('one_stage', dict(train_cfg__max_epochs=1), dict(train_cfg__max_epochs=2)),
        (
            'segmentor',
            dict(train_cfg__max_iters=2, train_cfg__val_interval=2),
            dict(train_cfg__max_iters=4, train_cfg__val_interval=2),
        ),
    ],
)
def test_the_last_validation(request, tmp_path, validated, family, length, longer):
    def run(resumes, options):
        config = request.getfixturevalue(family).plain(**options)
        config.work_dir, config.resume = str(tmp_path), resumes
        config.custom_hooks = [*config.get('custom_hooks', []), dict(type='Noting')]
        train(config)

    run(False, length)
    run(True, length)
    run(True, longer)

    assert len(validated) == 3
    assert validated[0] == validated[1] < validated[2]


def test_a_run_without_validation_ends_without_one(tmp_path, segmentor, validated):
    config = segmentor.plain(train_cfg__max_iters=2, train_cfg__val_interval=2)
    config.work_dir, config.custom_hooks = str(tmp_path), [dict(type='Noting')]
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    for config.resume in (False, True):
        train(config)

    assert validated == []
