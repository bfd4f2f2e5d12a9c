"""What is read out of a work_dir, and what is said of one that lacks something."""

import json
import math

import pytest
import torch

from kddense.registry import MODELS
from kddense.training.runs import read_run

EPOCHS = "train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3)\n"
ITERATIONS = "train_cfg = dict(type='IterBasedTrainLoop', max_iters=30)\n"


def step(number, epoch=None, **values):
    return dict(
        lr=0.1, loss=1 / number, time=0.5, **values, **(dict(epoch=epoch) if epoch else {}), iter=number, step=number
    )


def validation(number, **values):
    return dict(**values, data_time=0.1, time=0.2, step=number)


@pytest.fixture
def work_dir(tmp_path):
    """Make a work_dir; a list of records for each time that the training was started."""

    def make(*starts, config=ITERATIONS, checkpoint='iter_30.pth'):
        for index, records in enumerate(starts):
            data = tmp_path / f'2026110{index}_000000' / 'vis_data'
            data.mkdir(parents=True)
            (data / 'scalars.json').write_text(''.join(f'{json.dumps(record)}\n' for record in records))
        if config:
            (tmp_path / 'student.py').write_text(config)
        if checkpoint:
            torch.save({}, tmp_path / checkpoint)
        return tmp_path

    return make


def test_its_model_is_built_also_where_mmengine_does_not_find_a_type_by_its_path(work_dir):
    """As mmengine dumps a config of its new style; the module of this class has the name of a function beside it."""
    loss = "dict(type='mmdet.models.losses.smooth_l1_loss.L1Loss', loss_weight=2.0)"
    run = read_run(work_dir([step(10)], config=f'{ITERATIONS}model = dict(losses=[{loss}])\n'), 'plain')

    assert MODELS.build(run.config.model.losses[0]).loss_weight == 2


def test_a_finished_run_has_no_faults(work_dir):
    folder = work_dir([step(10, loss_cls=0.5), step(20, loss_cls=0.25), validation(30, mIoU=50.5), step(30)])
    run = read_run(folder, 'plain')
    assert run.faults == []
    assert run.losses() == ['loss', 'loss_cls']
    assert run.curve('loss_cls') == ([10, 20], [0.5, 0.25])
    assert run.metrics() == {'mIoU': 50.5}
    assert run.metric_curve('mIoU') == ([30], [50.5])
    assert not run.counts_epochs
    assert run.checkpoint == folder / 'iter_30.pth'
    assert run.config.train_cfg.max_iters == 30


def test_what_a_resumed_run_did_again_counts_once(work_dir):
    folder = work_dir([step(10), step(20), step(30)], [step(20, loss_cls=7.0), step(30)])
    run = read_run(folder, 'plain')
    assert [record['step'] for record in run.steps] == [10, 20, 30]
    assert run.curve('loss_cls') == ([20], [7.0])


def test_scores_of_discriminators_are_no_losses(work_dir):
    names = {'distill.holistic.score_student': 1.0, 'distill.holistic.loss_student': 2.0}
    run = read_run(work_dir([step(30, **names)]), 'distilled')
    assert run.scores() == ['distill.holistic.score_student']
    assert run.losses() == ['loss', 'distill.holistic.loss_student']


def test_nan_in_the_log_is_told_and_left_out_of_the_curve(work_dir):
    run = read_run(
        work_dir([step(10, loss_cls=1.0), step(20, loss_cls=math.nan), step(30, loss_cls=math.inf)]), 'plain'
    )
    assert run.curve('loss_cls') == ([10], [1.0])
    (fault,) = run.faults
    assert 'plain: loss_cls is NaN or infinite in 2 of 3 logged steps, first at iteration 20' in fault


def test_a_nan_metric_is_told(work_dir):
    run = read_run(work_dir([step(30), validation(30, mIoU=math.nan)]), 'plain')
    assert run.faults == ['plain: mIoU of the last validation is NaN']


@pytest.mark.parametrize(
    'config, checkpoint, records, expected',
    [
        (ITERATIONS, 'iter_10.pth', [step(10), step(20)], 'iteration 20 of 30'),
        (EPOCHS, 'epoch_1.pth', [step(5, 1), validation(1, mIoU=1.0), step(10, 2)], 'epoch 1 of 3'),
        (EPOCHS, 'epoch_2.pth', [step(5, 1), step(10, 2), step(15, 3)], 'epoch 2 of 3'),
    ],
)
def test_an_interrupted_training_is_told(work_dir, config, checkpoint, records, expected):
    run = read_run(work_dir(records, config=config, checkpoint=checkpoint), 'plain')
    assert run.faults == [f'plain: the training was interrupted at {expected}']


def test_a_training_by_epochs_that_came_to_its_end(work_dir):
    run = read_run(work_dir([step(5, 1), step(14, 3)], config=EPOCHS, checkpoint='epoch_3.pth'), 'plain')
    assert run.faults == []
    assert run.counts_epochs


def test_a_line_cut_off_by_a_crash_is_told_and_the_rest_read(work_dir):
    folder = work_dir([step(10), step(30)])
    (log,) = folder.glob('*/vis_data/scalars.json')
    log.write_text(log.read_text() + '{"lr": 0.1, "lo')
    run = read_run(folder, 'plain')
    assert len(run.steps) == 2
    (fault,) = run.faults
    assert fault.startswith('plain: 1 damaged or cut-off lines of')
    assert fault.endswith('were left out')


def test_what_is_missing_is_told(work_dir, tmp_path):
    run = read_run(work_dir(config=None, checkpoint=None), 'plain')
    assert [('no checkpoint' in fault, 'no log' in fault, 'no config' in fault) for fault in run.faults] == [
        (False, False, True),
        (True, False, False),
        (False, True, False),
    ]
    missing = read_run(tmp_path / 'nowhere', 'plain')
    assert missing.faults == [f'plain: there is no folder {tmp_path / "nowhere"}']
    assert missing.metrics() == {}


def test_a_config_that_cannot_be_read_is_told(work_dir):
    run = read_run(work_dir([step(30)], config='train_cfg = undefined_name'), 'plain')
    assert run.config is None
    assert 'cannot be read' in run.faults[0]
    assert 'undefined_name' in run.faults[0]


def test_the_checkpoint_is_found_where_the_work_dir_was_moved_to(work_dir):
    folder = work_dir([step(30)])
    torch.save({}, folder / 'iter_9.pth')
    assert read_run(folder, 'plain').checkpoint == folder / 'iter_30.pth'  # by number, not by name
    (folder / 'last_checkpoint').write_text('/elsewhere/iter_9.pth')
    assert read_run(folder, 'plain').checkpoint == folder / 'iter_9.pth'


def test_the_first_seed_stands_for_all(work_dir, tmp_path):
    for seed in (10, 2):
        (tmp_path / f'seed_{seed}').mkdir()
        (tmp_path / f'seed_{seed}' / 'student.py').write_text(ITERATIONS)
    assert read_run(tmp_path, 'plain').folder == tmp_path / 'seed_2'


def test_versions_and_seed_are_read_from_the_log(work_dir):
    folder = work_dir([step(30)])
    head = '    Python: 3.11.7 (main)\n    PyTorch: 2.1.0\n    seed: 3\n  - GCC 13\nConfig:\n    PyTorch: wrong\n'
    next(folder.glob('2026*')).joinpath('a.log').write_text(head)
    assert read_run(folder, 'plain').environment == {'Python': '3.11.7 (main)', 'PyTorch': '2.1.0', 'seed': '3'}
