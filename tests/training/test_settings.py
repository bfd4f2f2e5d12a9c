"""What runs must share, and how a schedule is stretched."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from kddense.apps.measure.timing import steps_that_fit
from kddense.training.settings import setting_of, steps_of, stretched

ITERATIONS = dict(
    train_cfg=dict(type='IterBasedTrainLoop', max_iters=600, val_interval=600),
    default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=600)),
    param_scheduler=[
        dict(type='LinearLR', by_epoch=False, begin=0, end=50),
        dict(type='PolyLR', by_epoch=False, begin=50, end=600),
    ],
)
EPOCHS = dict(
    train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=12, val_interval=1),
    param_scheduler=dict(
        student=[
            dict(type='LinearLR', by_epoch=False, begin=0, end=500),
            dict(type='MultiStepLR', begin=0, end=12, milestones=[8, 11]),
        ],
        holistic=dict(type='CosineAnnealingLR', begin=0, T_max=12, end=12),
    ),
)


def test_iterations_are_stretched_and_the_warm_up_is_not():
    config = Config(ITERATIONS)

    longer = stretched(config, 1000)

    assert steps_of(longer) == (1000, 'iterations')
    assert longer.train_cfg.val_interval == 1000
    assert longer.default_hooks.checkpoint.interval == 1000
    assert [scheduler.end for scheduler in longer.param_scheduler] == [50, 1000]
    assert steps_of(config) == (600, 'iterations')  # the config that was given stays as it is


def test_epochs_are_stretched_in_every_optimisers_schedule():
    longer = stretched(Config(EPOCHS), 18)

    assert steps_of(longer) == (18, 'epochs')
    assert longer.train_cfg.val_interval == 1
    warm_up, steps = longer.param_scheduler.student
    assert warm_up.end == 500
    assert (steps.end, steps.milestones) == (18, [12, 16])
    assert (longer.param_scheduler.holistic.end, longer.param_scheduler.holistic.T_max) == (18, 18)


SCHEDULES = [
    # RTMDet's second half, and a warm-up of as many iterations as the loop has epochs
    (
        [
            dict(type='LinearLR', by_epoch=False, begin=0, end=300),
            dict(type='CosineAnnealingLR', begin=150, end=300, T_max=150),
        ],
        100,
        [dict(begin=0, end=300), dict(begin=50, end=100, T_max=50)],
    ),
    (
        [dict(type='LinearLR', begin=0, end=5), dict(type='CosineAnnealingLR', begin=5, end=300, T_max=295)],
        600,
        [dict(begin=0, end=5), dict(begin=5, end=600, T_max=595)],
    ),
    # a warm-up that does not fit
    (
        [dict(type='LinearLR', begin=0, end=60), dict(type='PolyLR', begin=60, end=300)],
        50,
        [dict(begin=0, end=10), dict(begin=10, end=50)],
    ),
    ([dict(type='OneCycleLR', eta_max=0.1, total_steps=300)], 600, [dict(total_steps=600)]),
    ([dict(type='StepLR', step_size=100)], 150, [dict(step_size=50)]),
    (
        [dict(type='CosineRestartLR', periods=[100, 200], restart_weights=[1, 1], eta_min=0, end=300)],
        600,
        [dict(periods=[200, 400], end=600)],
    ),
]


@pytest.mark.parametrize(('written', 'steps', 'expected'), SCHEDULES)
def test_schedules_of_any_kind_are_stretched_and_still_fit(written, steps, expected):
    config = Config(dict(train_cfg=dict(max_epochs=300), param_scheduler=written))

    found = stretched(config, steps).param_scheduler

    assert [{key: one[key] for key in wanted} for one, wanted in zip(found, expected, strict=True)] == expected
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    for one in found:
        PARAM_SCHEDULERS.build(dict(one), default_args=dict(optimizer=optimizer))


@pytest.mark.parametrize(
    ('steps', 'ratio', 'unit', 'fit'),
    [
        (50, 1.1, 'epochs', 55),
        (100, 1.09, 'iterations', 109),
        (600, 1.755, 'iterations', 1053),
        (8, 1.55, 'epochs', 13),
        (8, 1.5, 'epochs', 12),
        (600, 0.9, 'iterations', 600),
    ],
)
def test_how_many_plain_steps_fit(steps, ratio, unit, fit):
    assert steps_that_fit(steps, ratio, unit) == fit


@pytest.mark.parametrize('place', ['custom_hooks', 'default_hooks'])
def test_the_setting_tells_images_without_labels(place):
    hook = dict(type='kddense.UnlabelledImagesHook', ratio=0.5, dataset=dict(type='Images'))
    hooks = {place: [hook] if place == 'custom_hooks' else dict(unlabelled=hook, checkpoint=None)}

    setting = setting_of(Config(dict(train_dataloader=dict(batch_size=4, dataset={}), **hooks)))

    assert setting['train'] == dict(data=[], sizes=[], batch_size=4, unlabelled=2)


def test_the_setting_names_data_and_sizes():
    loader = dict(
        batch_size=4,
        dataset=dict(
            type='RepeatDataset',
            dataset=dict(
                data_root='data/a/',
                ann_file='train.json',
                data_prefix=dict(img='images/'),
                pipeline=[
                    dict(type='Load'),
                    dict(type='Resize', scale=(64, 48)),
                    dict(type='RandomCrop', crop_size=(32, 32)),
                ],
            ),
        ),
    )

    setting = setting_of(Config(dict(train_dataloader=loader)))

    assert setting == dict(
        train=dict(
            data=['data/a/images/', 'data/a/train.json'], sizes=['Resize 64x48', 'RandomCrop 32x32'], batch_size=4
        ),
        test=dict(data=[], sizes=[]),
    )
