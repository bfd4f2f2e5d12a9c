"""The range of a teacher's errors: files, their owners, and what is kept up while training."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import multiprocessing

from kddense.objectives.ail.teacher_error import (
    TeacherErrorRange,
    TeacherErrors,
    describe_checkpoint,
    describe_dataset,
    read_teacher_errors,
    training_set,
    write_teacher_errors,
)

from ...helpers.processes import PATIENCE

ERRORS = torch.tensor([0.25, 0.01, 0.09])
DATASET = dict(type='CocoDataset', data_root='data/bccd/', ann_file='train.json', data_prefix=dict(img='train/'))
CONFIG = f'train_dataloader = dict(dataset={DATASET!r})'
NAME = 'CocoDataset bccd train.json train/'


def measured(dataset=NAME, teacher='untrained', errors=ERRORS):
    return TeacherErrors.of(errors, dataset, teacher, measure='squared box deltas')


@pytest.fixture
def path(tmp_path):
    write_teacher_errors(tmp_path / 'errors.json', measured())
    return str(tmp_path / 'errors.json')


def test_the_worked_example():
    errors = measured()
    assert (errors.count, errors.range()) == (3, pytest.approx(0.24))
    assert errors.range(50) == pytest.approx(0.09 - 0.01)


def test_percentiles_are_numpys():
    errors = np.random.default_rng(0).exponential(size=1001)
    own = measured(errors=torch.from_numpy(errors)).percentiles
    for percent, value in own.items():
        assert value == pytest.approx(np.percentile(errors, percent))


def test_a_file_gives_back_what_it_was_given(path):
    assert read_teacher_errors(path) == measured()
    with open(path) as file:
        contents = json.load(file)
    assert contents['percentile_99.9'] == measured().percentiles[99.9]
    assert {'dataset', 'teacher', 'measure', 'minimum', 'maximum', 'count'} <= contents.keys()


def test_an_outlier_does_not_count_at_a_percentile(tmp_path):
    errors = torch.cat([torch.linspace(0, 1, 999), torch.tensor([1e6])])
    write_teacher_errors(tmp_path / 'errors.json', measured(errors=errors))
    source = str(tmp_path / 'errors.json')
    assert TeacherErrorRange(source, measure='squared box deltas')(ERRORS).item() == pytest.approx(1e6)
    assert TeacherErrorRange(source, 99, 'squared box deltas')(ERRORS).item() == pytest.approx(0.99, abs=0.01)


def test_a_number_is_taken_as_it_is():
    error_range = TeacherErrorRange(0.3).train()
    assert error_range(ERRORS).item() == pytest.approx(0.3)
    assert error_range(10 * ERRORS).item() == pytest.approx(0.3)
    assert not error_range.state_dict()


def test_the_running_range_widens_in_training_only():
    error_range = TeacherErrorRange('running').eval()
    assert error_range(ERRORS).item() == 0
    error_range.train()
    assert error_range(ERRORS[1:]).item() == pytest.approx(0.08)
    assert error_range(ERRORS[:1]).item() == pytest.approx(0.24)
    assert error_range(torch.zeros(0)).item() == pytest.approx(0.24)
    assert error_range(ERRORS[1:].view(1, 2)).item() == pytest.approx(0.24)
    assert error_range.eval()(10 * ERRORS).item() == pytest.approx(0.24)
    later = TeacherErrorRange('running')
    later.load_state_dict(error_range.state_dict())
    assert later(ERRORS[1:]).item() == pytest.approx(0.24)


def test_no_error_yet_is_a_range_of_zero():
    assert TeacherErrorRange('running').train()(torch.zeros(0)).item() == 0


def _one_of_two(rank, file, results):
    torch.distributed.init_process_group('gloo', init_method=f'file://{file}', rank=rank, world_size=2)
    error_range = TeacherErrorRange('running').train()
    steps = ([ERRORS[:1], torch.zeros(0)], [ERRORS[1:], torch.tensor([1.0])])[rank]
    results.put((rank, [error_range(errors).item() for errors in steps]))
    torch.distributed.destroy_process_group()


def test_processes_share_one_range(tmp_path):
    """The second process's errors count for the first, also in a step in which that has none."""
    context = multiprocessing.get_context('fork')
    results = context.Queue()
    processes = [context.Process(target=_one_of_two, args=(rank, tmp_path / 'rendezvous', results)) for rank in (0, 1)]
    for process in processes:
        process.start()
    got = dict(results.get(timeout=PATIENCE) for _ in processes)
    for process in processes:
        process.join(PATIENCE)
    assert got[0] == got[1] == [pytest.approx(0.24), pytest.approx(0.99)]


def test_a_dataset_is_named_by_what_it_reads():
    assert describe_dataset(DATASET) == NAME
    moved = {**DATASET, 'type': 'mmdet.CocoDataset', 'data_root': '/elsewhere/bccd', 'pipeline': [dict(type='Resize')]}
    assert describe_dataset(moved) == NAME
    assert describe_dataset(dict(type='RepeatDataset', times=2, dataset=DATASET)) == NAME
    assert describe_dataset(dict(type='ConcatDataset', datasets=[DATASET, DATASET])) == f'{NAME} + {NAME}'
    assert describe_dataset({**DATASET, 'indices': 100}) == f'{NAME} indices=100'
    assert describe_dataset(dict(type='OtherDataset')) == 'OtherDataset'
    assert training_set(CONFIG) == NAME
    for nothing in ('', 'train_dataloader = None', 'train_dataloader = dict(dataset=1)', 'dict('):
        assert training_set(nothing) is None


def test_a_checkpoint_is_named_by_what_it_holds(tmp_path):
    (tmp_path / 'a').mkdir()
    for name, contents in (('epoch_1.pth', b'one'), ('a/epoch_1.pth', b'one'), ('epoch_2.pth', b'two')):
        (tmp_path / name).write_bytes(contents)
    assert describe_checkpoint(tmp_path / 'epoch_1.pth') == 'epoch_1.pth (7692c3ad)'
    assert describe_checkpoint(tmp_path / 'a' / 'epoch_1.pth') == 'epoch_1.pth (7692c3ad)'
    (tmp_path / 'epoch_1.pth').write_bytes(b'two')
    assert describe_checkpoint(tmp_path / 'epoch_1.pth') != 'epoch_1.pth (7692c3ad)'
    assert describe_checkpoint('https://example.org/r50-1d2dac9c.pth') == 'r50-1d2dac9c.pth'
    (tmp_path / 'r50-1d2dac9c.pth').write_bytes(b'downloaded')
    assert describe_checkpoint(tmp_path / 'r50-1d2dac9c.pth') == 'r50-1d2dac9c.pth'
    assert describe_checkpoint(None) == 'untrained'


def test_a_file_of_another_run_is_refused(path, tmp_path):
    error_range = TeacherErrorRange(path, measure='squared box deltas')
    error_range.check_run(CONFIG, None)
    error_range.check_run(None, None)
    other = CONFIG.replace('train.json', 'trainval.json')
    with pytest.raises(
        ValueError, match=r"measured for the dataset 'CocoDataset bccd train.json train/', and this run's"
    ):
        error_range.check_run(other, None)
    with pytest.raises(
        ValueError, match=r"for the teacher 'untrained', and this run's is 'r50.pth': measure the errors"
    ):
        error_range.check_run(CONFIG, 'r50.pth')
    TeacherErrorRange('running').check_run(other, 'r50.pth')


def test_bad_input_is_named(path, tmp_path):
    with pytest.raises(ValueError, match='error_range must be at least 0, got -1'):
        TeacherErrorRange(-1)
    with pytest.raises(
        ValueError, match="percentile needs errors that were measured before, but error_range is 'running'"
    ):
        TeacherErrorRange('running', percentile=99)
    with pytest.raises(ValueError, match=r'percentile must be one of those measured, 50, 75, .*, got 42'):
        TeacherErrorRange(path, percentile=42, measure='squared box deltas')
    with pytest.raises(ValueError, match="holds errors in 'squared box deltas', this needs 'log depth'"):
        TeacherErrorRange(path, measure='log depth')
    with pytest.raises(ValueError, match=r"error_range: '.*nowhere.json' is no file of teacher errors"):
        TeacherErrorRange(str(tmp_path / 'nowhere.json'))
    for contents in ('[]', '{"dataset": "x"}', 'nothing'):
        (tmp_path / 'bad.json').write_text(contents)
        with pytest.raises(ValueError, match='is no file of teacher errors'):
            read_teacher_errors(tmp_path / 'bad.json')
    with open(path) as file:
        wrong = {**json.load(file), 'maximum': 0.001}
    (tmp_path / 'bad.json').write_text(json.dumps(wrong))
    with pytest.raises(ValueError, match='minimum and maximum must be finite, at least 0 and in this order'):
        read_teacher_errors(tmp_path / 'bad.json')
    with pytest.raises(ValueError, match='holds no sample that the teacher could be wrong about'):
        measured(errors=torch.zeros(0))
    for value in (math.nan, math.inf, -0.1):
        with pytest.raises(ValueError, match='must be finite and at least 0'):
            measured(errors=torch.tensor([value]))
