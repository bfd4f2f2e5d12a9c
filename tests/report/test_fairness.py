"""What is not equal between two trainings is found and named, one thing at a time."""

import copy
from pathlib import Path

import pytest
from mmengine.config import Config

from kddense.report.contents import Entrant
from kddense.report.costs import RunningCosts
from kddense.report.entrants import plain_config
from kddense.report.fairness import unequal
from kddense.training.runs import Run

LOADER = dict(
    batch_size=4,
    dataset=dict(
        type='CocoDataset',
        data_root='data/',
        ann_file='train.json',
        data_prefix=dict(img='train/'),
        pipeline=[dict(type='Resize', scale=(256, 128))],
    ),
)
PLAIN = dict(
    model=dict(type='Net', backbone=dict(type='ResNet', depth=18), head=dict(channels=32)),
    train_dataloader=LOADER,
    test_dataloader=LOADER,
    train_cfg=dict(max_epochs=6),
    optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)),
    param_scheduler=[dict(type='LinearLR', begin=0, end=50)],
    randomness=dict(seed=0),
)


def entrant(title='plain student', parameters=1e6, steps=(), **changes) -> Entrant:
    config = Config(copy.deepcopy(PLAIN))
    config.merge_from_dict({key.replace('__', '.'): value for key, value in changes.items()})
    run = Run(title, Path(), config, steps=list(steps))
    return Entrant(title, title, 'red', run, plain_config(config), costs=RunningCosts(int(parameters), 1, 1, 1))


def distilled(**changes) -> Entrant:
    made = entrant('distilled student', **changes)
    made.run.config.model = dict(type='kddense.Distiller', student=made.run.config.model, teacher=dict(config='a'))
    made.config = plain_config(made.run.config)
    return made


def test_the_same_but_for_the_teacher_is_fair():
    assert unequal(distilled(), entrant()) == []


@pytest.mark.parametrize(
    'changes, told',
    [
        (dict(train_cfg__max_epochs=12), '12 epochs instead of 6 epochs'),
        (dict(train_dataloader__batch_size=8), 'batches of 8 instead of 4 images'),
        (dict(optim_wrapper__optimizer__lr=2e-3), 'learning rate 0.002 instead of 0.001'),
        (dict(optim_wrapper__optimizer__type='SGD'), 'optimiser SGD instead of AdamW'),
        (dict(optim_wrapper__accumulative_counts=4), 'accumulative_counts 4 instead of none'),
        (dict(param_scheduler=[]), 'another schedule of the learning rate'),
        (dict(randomness__seed=1), 'seed 1 instead of 0'),
        (dict(load_from='a.pth'), 'other weights to start from: a.pth instead of None'),
        (dict(model__backbone__depth=50), 'another model (backbone.depth)'),
        (
            dict(train_dataloader__dataset__ann_file='more.json'),
            'other data in training: data/more.json, data/train/ instead of data/train.json, data/train/',
        ),
        (
            dict(test_dataloader__dataset__pipeline=[dict(type='Resize', scale=(512, 256))]),
            'other sizes in test: Resize 512x256 instead of Resize 256x128',
        ),
    ],
)
def test_what_is_not_equal_is_named(changes, told):
    assert unequal(distilled(**changes), entrant()) == [told]


def test_the_images_that_both_are_measured_on_are_compared():
    own, plain = (entrant(val_dataloader=copy.deepcopy(LOADER)) for _ in range(2))
    own.run.config.val_dataloader.dataset.ann_file = 'val.json'

    assert unequal(own, plain, split='test') == []
    assert unequal(own, plain, split='val') == [
        'other data in validation: data/train/, data/val.json instead of data/train.json, data/train/'
    ]


def test_figures_of_a_log_are_not_compared_with_measured_ones():
    own = entrant()
    own.logged = True
    assert unequal(own, entrant()) == ['figures of a log beside measured ones']


def test_a_larger_student_is_told_with_its_size():
    (told,) = unequal(distilled(model__head__channels=96, parameters=3e6), entrant())
    assert told == 'another model (head.channels): 3.00 M parameters instead of 1.00 M parameters'


def test_several_are_all_named():
    assert len(unequal(distilled(randomness__seed=1, train_cfg__max_epochs=12), entrant())) == 2


def test_a_plain_student_that_is_meant_to_train_longer_may():
    assert unequal(distilled(), entrant(train_cfg__max_epochs=9), longer_is_meant=True) == []
    assert unequal(distilled(), entrant(train_cfg__max_epochs=9, randomness__seed=1), longer_is_meant=True) == [
        'seed 0 instead of 1'
    ]


def test_a_training_that_was_cut_off_is_told():
    cut = entrant(steps=[dict(step=10, epoch=3)])
    assert unequal(distilled(), cut) == ['plain student did not train to its end']


def test_without_a_config_nothing_is_taken_for_equal():
    unknown = Entrant('plain student', 'plain', 'red', Run('plain student', Path()))
    assert unequal(distilled(), unknown) == ['whether both trained alike is not known, for want of a config']


def test_another_optimiser_s_parameters_do_not_count():
    """Those of a discriminator are the method's own."""
    made = distilled()
    made.run.config.optim_wrapper.objectives = dict(holistic=dict(optimizer=dict(type='Adam', lr=1)))
    assert unequal(made, entrant()) == []
