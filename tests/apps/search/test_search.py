"""kddense search: rewards, fronts, bad spaces; workers share one study, and take over from those who are gone."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import time

import pytest
from mmengine.config import Config

from kddense.apps import search as app
from kddense.apps.program.process import locked
from kddense.apps.search import study as studies
from kddense.apps.search import trial as trials
from kddense.apps.search.folder import folder_of, study_in
from kddense.apps.search.page import write_results
from kddense.apps.search.space import config_of, read_search
from kddense.apps.search.study import Worker, front, reward

from ...helpers.processes import PATIENCE

pytest.importorskip('optuna')
REAL_TRAIN = trials.train
SPACE = dict(
    width={str(width): {'student.backbone.base_channels': width} for width in (8, 16)},
    rate={str(rate): {'optim_wrapper.optimizer.lr': rate} for rate in (0.01, 0.02, 0.03)},
)


@pytest.fixture
def search(segmentor, tmp_path):
    """Write a search file over a toy distillation; returns its path."""
    segmentor.build(segmentor.plain().model)
    segmentor.distilled().dump(tmp_path / 'run.py')

    def write(**options):
        options = dict(config=str(tmp_path / 'run.py'), space=SPACE, steps=4, validations=2, trials=4) | options
        (tmp_path / 'search.py').write_text(''.join(f'{key} = {value!r}\n' for key, value in options.items()))
        return str(tmp_path / 'search.py')

    return write


@pytest.fixture
def quick(monkeypatch):
    """Students that need no training: the wider and the faster the better, and cost their width; a list of the trained."""
    trained = []

    def train(config, folder, told, lock):
        trained.append(folder)
        metrics = dict(mIoU=_width(config) + 100 * config.optim_wrapper.optimizer.lr)
        return None if told(1, metrics) else metrics

    def costs(config):
        return dict(latency=float(_width(config)), multiply_adds=1.0, parameters=1.0)

    monkeypatch.setattr(trials, 'train', train)
    monkeypatch.setattr(trials, 'costs_of', costs)
    return trained


def _width(config):
    return config.model.get('student', config.model).backbone.base_channels


def worker(file, folder, **options):
    return Worker(read_search(file), folder, say=lambda text: None, **options)


def test_the_reward_of_the_paper():
    """METHODS' EX 15: ω = -0.07, at most 80 ms."""
    assert reward(0.70, 80, 80) == 0.70
    assert reward(0.72, 160, 80) == pytest.approx(0.685899, abs=1e-6)
    assert reward(0.72, 40, 80) == 0.72


def test_the_front_is_what_nothing_beats():
    points = dict(a=(1.0, 5.0), b=(2.0, 4.0), c=(2.0, 7.0), d=(3.0, 7.0), e=(4.0, 9.0))
    assert front(points) == ['a', 'c', 'e']


def test_changes_are_the_students_with_a_teacher_and_without(search):
    found = read_search(search())
    chosen = dict(width='16', rate='0.02')
    taught, alone = (config_of(found, chosen, one) for one in (True, False))
    assert taught.model.student.backbone.base_channels == alone.model.backbone.base_channels == 16
    assert taught.optim_wrapper.optimizer.lr == 0.02
    assert (taught.train_cfg.max_iters, taught.train_cfg.val_interval) == (4, 2)
    assert config_of(found, chosen, short=False).train_cfg.max_iters == 12
    changes = {'model.student.backbone.base_channels': 24, 'model.objectives.soft.weight': 3.0}
    found = read_search(search(space=dict(both=dict(a=changes))))
    taught, alone = (config_of(found, dict(both='a'), one).model for one in (True, False))
    assert (taught.student.backbone.base_channels, taught.objectives.soft.weight) == (24, 3.0)
    assert alone.backbone.base_channels == 24
    assert not {'student', 'objectives'} & alone.keys()


def test_options_change_every_trial_and_the_best(search, quick, tmp_path):
    options = ['model.objectives.soft.weight=3.0', 'model.student.backbone.depth=34']
    assert app.main([search(), '--work-dir', str(tmp_path / 'out'), '--cfg-options', *options]) == 0
    best = Config.fromfile(tmp_path / 'out/taught/best.py').model
    assert (best.objectives.soft.weight, best.student.backbone.depth) == (3.0, 34)
    found = read_search(search(), {'model.objectives.soft.weight': 3.0, 'model.student.backbone.depth': 34})
    alone = config_of(found, dict(width='8', rate='0.01'), with_teacher=False).model
    assert alone.backbone.depth == 34
    assert 'objectives' not in alone


def test_other_options_are_another_study(search, quick, tmp_path):
    worker(search(), tmp_path / 'out').work()
    other = read_search(search(), {'optim_wrapper.optimizer.lr': 0.5})
    with pytest.raises(ValueError, match='holds a study of another space'):
        Worker(other, tmp_path / 'out').open()


def test_the_best_is_found_and_written(search, quick, tmp_path, capsys):
    assert app.main([search(trials=12), '--work-dir', str(tmp_path / 'out')]) == 0
    best = Config.fromfile(tmp_path / 'out/taught/best.py')
    assert best.model.student.backbone.base_channels == 16
    assert best.train_cfg.max_iters == 12, 'in full'
    rows = json.loads((tmp_path / 'out/taught/front.json').read_text())
    assert [row['latency'] for row in rows] == sorted(row['latency'] for row in rows)
    assert 'the best student is' in capsys.readouterr().out
    assert len(json.loads((tmp_path / 'out/taught/students.json').read_text())) >= len(rows)
    assert quick
    quick.clear()
    assert app.main([search(trials=12), '--work-dir', str(tmp_path / 'out')]) == 0
    assert not quick, 'what is done is not repeated'


def test_no_student_is_tried_twice(search, quick, tmp_path):
    """However much Optuna likes one; a search ends when there is no other."""
    study = worker(search(trials=100), tmp_path / 'out').work()
    assert len(quick) == len(set(quick)) == 6, 'all there are'
    done = [one.params for one in study.get_trials() if one.state.name in ('COMPLETE', 'PRUNED')]
    assert len(done) == 6


def test_students_over_the_limit_do_not_count(search, quick, tmp_path):
    study = worker(search(trials=3, limit=dict(latency=10)), tmp_path / 'out').work()
    assert len(quick) == 3
    assert {one.params['width'] for one in study.get_trials() if one.state.name == 'COMPLETE'} == {'8'}


def test_one_page_holds_the_searches_with_a_teacher_and_without(search, quick, tmp_path):
    file, out = search(trials=4), ['--work-dir', str(tmp_path / 'out')]
    app.main([file, *out])
    page = (tmp_path / 'out/report.html').read_text()
    assert 'with the teacher' in page
    assert '<td>alone</td>' not in page
    app.main([file, *out, '--without-teacher'])
    page = (tmp_path / 'out/report.html').read_text()
    assert page.count('<td>with the teacher</td>') == page.count('<td>alone</td>') == 4
    assert page.count('<figure>') == 3
    assert page.count('<td>yes</td>') >= 2, 'a front of each'


def test_workers_that_end_together_write_the_same_files(search, quick, tmp_path):
    file = read_search(search(trials=2))
    study = worker(search(trials=2), tmp_path / 'out').work()

    def write():
        for _ in range(5):
            write_results(study, file, tmp_path / 'out', 'search')

    both = [multiprocessing.get_context('fork').Process(target=write) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert [one.exitcode for one in both] == [0, 0]


def test_two_workers_share_one_study_and_take_half_the_time(search, quick, tmp_path, monkeypatch):
    """Trainings end in pairs, each once the other has begun: three times in all, whatever else the machine does."""
    context = multiprocessing.get_context('fork')
    begun = context.Value('i', 0)

    def train(config, folder, told, lock):
        with begun.get_lock():
            number = begun.value
            begun.value += 1
        deadline = time.monotonic() + PATIENCE
        while in_pairs and begun.value <= min(number | 1, 5):  # the last one may be begun twice
            assert time.monotonic() < deadline, 'no other training begins meanwhile'
            time.sleep(0.01)
        return dict(mIoU=1.0)

    monkeypatch.setattr(trials, 'train', train)
    file = search(trials=6)
    for count in (1, 2):
        in_pairs, begun.value = count == 2, 0
        folder = tmp_path / f'by_{count}'
        worker(file, folder).open()
        workers = [context.Process(target=worker(file, folder).work) for _ in range(count)]
        for one in workers:
            one.start()
        for one in workers:
            one.join()
        assert not any(one.exitcode for one in workers)
        found = worker(file, folder).open().get_trials()
        done = [one for one in found if one.state.name in ('COMPLETE', 'PRUNED')]
        assert begun.value == len(done) in (6, 7)


def test_over_the_limit_is_left_out_or_weighed(search, quick, tmp_path):
    hard = worker(search(limit=dict(latency=10.0), trials=6), tmp_path / 'hard').work()
    tried = [one for one in hard.get_trials() if one.state.name == 'COMPLETE']
    assert len(quick) == len(tried), 'over the limit, not trained'
    assert {one.params['width'] for one in tried} <= {'8'}
    soft = worker(search(limit=dict(latency=10.0), omega=-0.07, trials=6), tmp_path / 'soft').work()
    for one in soft.get_trials():
        if one.state.name == 'COMPLETE' and one.params['width'] == '16':
            raw = 16 + 100 * float(one.params['rate'])
            assert one.value == pytest.approx(raw * 1.6**-0.07)


def test_over_the_limit_less_of_what_is_better_below_is_worse(search, quick, tmp_path, monkeypatch, capsys):
    """An error of 0.2 of a student over the limit counts as a greater one."""

    def train(config, folder, told, lock):
        told(1, dict(abs_rel=0.2))
        return dict(abs_rel=0.2)

    monkeypatch.setattr(trials, 'train', train)
    found = worker(search(limit=dict(latency=10.0), omega=-0.07, trials=8), tmp_path / 'out').work().get_trials()
    values = {one.params['width']: one.value for one in found if one.state.name == 'COMPLETE'}
    assert values['8'] == -0.2
    assert values['16'] == pytest.approx(-0.2 / 1.6**-0.07)
    assert values['16'] < values['8']


def test_a_worker_that_is_gone_is_replaced(search, quick, tmp_path):
    file = search(trials=2)
    first = worker(file, tmp_path / 'out')
    study = first.open()
    lost = study.ask()
    chosen = {name: lost.suggest_categorical(name, list(choices)) for name, choices in SPACE.items()}
    folder = folder_of(tmp_path / 'out', first.search.digest, chosen)
    folder.mkdir(parents=True)
    lost.set_user_attr('folder', str(folder))
    done = [one for one in worker(file, tmp_path / 'out').work().get_trials() if one.state.name == 'COMPLETE']
    assert done[0].params == chosen
    assert len(done) == 2


def test_a_trial_on_the_disk_of_another_machine_is_left_alone(search, quick, tmp_path):
    """The folder is not there, or another one of its name is: its worker, which may be at work, ends it."""
    database, said = f'sqlite:///{tmp_path / "study.db"}', []
    own = Worker(read_search(search(trials=2)), tmp_path / 'own', database, say=said.append)
    study = own.open()
    there = {}
    for mark in ('absent', 'another'):
        there[mark] = study.ask()
        there[mark].set_user_attr('mark', mark)
        there[mark].set_user_attr('folder', str(tmp_path / mark))
    (tmp_path / 'another').mkdir()
    (tmp_path / 'another/mark').write_text('of a trial of this machine')
    assert own._take_over(study) == {0, 1}
    assert not (tmp_path / 'absent').exists()
    for trial in there.values():
        study.tell(trial, 1.0)
    own.work()
    assert [one.state.name for one in study.get_trials()] == ['COMPLETE'] * 2


def test_ctrl_c_ends_in_one_sentence_and_the_next_call_goes_on(search, quick, tmp_path, monkeypatch):
    calls = [search(trials=1), '--work-dir', str(tmp_path / 'out')]
    real = trials.train

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(trials, 'train', interrupted)
    with pytest.raises(SystemExit, match='interrupted: the same command goes on from here'):
        app.main(calls)
    monkeypatch.setattr(trials, 'train', real)
    assert app.main(calls) == 0
    assert len(quick) == 1


def test_a_training_that_ends_while_another_worker_looks_counts(search, quick, tmp_path, monkeypatch):
    """After the look at what runs, before that its folder is found without a lock."""
    file = search(trials=1)
    study = worker(file, tmp_path / 'out').open()
    ending = study.ask()
    (tmp_path / 'out/ending').mkdir()
    ending.set_user_attr('folder', str(tmp_path / 'out/ending'))

    def locked_once_it_ended(file):
        study.tell(ending, 1.0)
        return locked(file)

    monkeypatch.setattr(studies, 'locked', locked_once_it_ended)
    assert [one.state.name for one in worker(file, tmp_path / 'out').work().get_trials()] == ['COMPLETE']
    assert not quick


def test_a_study_of_another_space_is_refused_and_stays(search, quick, tmp_path):
    worker(search(trials=1), tmp_path / 'out').work()
    before = (tmp_path / 'out/study.log').read_bytes()
    with pytest.raises(ValueError, match='holds a study of another space, config or schedule') as error:
        worker(search(trials=1, steps=6), tmp_path / 'out').work()
    assert '\n' not in str(error.value)
    assert len(worker(search(trials=1), tmp_path / 'out').open().get_trials()) == 1
    assert (tmp_path / 'out/study.log').read_bytes().startswith(before)


def test_another_config_behind_the_same_name_is_another_space(search, quick, tmp_path):
    worker(search(trials=1), tmp_path / 'out').work()
    file = tmp_path / 'run.py'
    file.write_text(file.read_text().replace('lr=0.01', 'lr=0.05'))
    with pytest.raises(ValueError, match='choose another folder with --work-dir'):
        worker(search(trials=1), tmp_path / 'out').open()
    database = f'sqlite:///{tmp_path / "study.db"}'
    worker(search(trials=1), tmp_path / 'other', storage=database).open()
    with pytest.raises(ValueError, match='choose another database with --storage and another folder with --work-dir'):
        worker(search(trials=1, steps=6), tmp_path / 'third', storage=database).open()
    assert not (tmp_path / 'third').exists()
    with pytest.raises(ValueError, match="--storage 'nowhere:///x'") as error:
        worker(search(trials=1), tmp_path / 'other', storage='nowhere:///x').open()
    assert '\n' not in str(error.value)


def test_another_database_takes_nothing_of_the_folder_of_another_study(search, quick, tmp_path):
    """Neither is its own study's record needed for that."""
    out = tmp_path / 'out'
    assert app.main([search(trials=12), '--work-dir', str(out)]) == 0
    (out / 'taught/study.log').unlink()
    quick.clear()
    before = contents_of(out)
    changed = [search(trials=12, steps=6), '--storage', f'sqlite:///{tmp_path / "study.db"}']
    with pytest.raises(
        SystemExit, match='taught holds a study of another space.*: choose another folder with --work-dir'
    ):
        app.main([*changed, '--work-dir', str(out)])
    assert contents_of(out) == before
    assert app.main([*changed, '--work-dir', str(tmp_path / 'other')]) == 0
    assert quick, 'trained, and not taken from there'
    assert contents_of(out) == before


def contents_of(folder):
    return {file: file.read_bytes() for file in folder.rglob('*') if file.is_file()}


def test_a_study_whose_record_is_gone_takes_what_it_trained(search, tmp_path, monkeypatch, quick):
    monkeypatch.setattr(trials, 'train', REAL_TRAIN)
    one = worker(search(trials=1, space=dict(rate={'0.01': {}})), tmp_path / 'out')
    result = folder_of(tmp_path / 'out', one.search.digest, dict(rate='0.01')) / 'result.json'
    one.open()
    result.parent.mkdir(parents=True)
    result.write_text('{"mIoU": 42.0}')
    (tmp_path / 'out/study.log').unlink()
    assert one.work().best_value == 42.0


def test_two_studies_never_train_in_one_folder(search, quick, tmp_path):
    """Even if the note was deleted: trials lie in a folder of their study."""
    one = worker(search(trials=6), tmp_path / 'out')
    one.work()
    first, other = set(quick), worker(search(trials=6, steps=6), tmp_path / 'out', storage=f'sqlite:///{tmp_path}/a.db')
    assert {folder.parent.name for folder in first} == {study_in(tmp_path / 'out')} == {one.search.digest}
    (tmp_path / 'out/study.txt').write_text(other.search.digest)
    quick.clear()
    other.work()
    assert len(quick) == 6
    assert not first & set(quick)


def test_a_folder_of_a_version_that_wrote_no_note(search, quick, tmp_path):
    """A study that was begun there goes on, a new one takes nothing of unknown trials."""
    file, database = search(trials=2), f'sqlite:///{tmp_path / "study.db"}'
    worker(file, tmp_path / 'out').work()
    (tmp_path / 'out/study.txt').unlink()
    quick.clear()
    with pytest.raises(ValueError, match='out holds trials, and nothing says of which study: choose another folder'):
        worker(file, tmp_path / 'out', storage=database).work()
    worker(file, tmp_path / 'out').work()
    assert not quick, 'what is done is not repeated'
    assert study_in(tmp_path / 'out') == read_search(file).digest
    with pytest.raises(ValueError, match='holds a study of another space'):
        worker(search(trials=2, steps=6), tmp_path / 'out', storage=database).work()


def test_the_page_leaves_out_a_search_of_another_study(search, quick, tmp_path, capsys):
    out = ['--work-dir', str(tmp_path / 'out')]
    app.main([search(trials=4), *out])
    taught = contents_of(tmp_path / 'out/taught')
    app.main([search(trials=4, steps=6), *out, '--without-teacher'])
    assert f'{tmp_path}/out/taught holds a study of another space' in capsys.readouterr().out
    page = (tmp_path / 'out/report.html').read_text()
    assert page.count('<td>alone</td>') == 4
    assert 'with the teacher' not in page
    assert contents_of(tmp_path / 'out/taught') == taught


@pytest.mark.parametrize('value', [float('nan'), float('inf'), float('-inf')])
def test_a_metric_that_is_not_finite_counts_as_tried(search, quick, tmp_path, monkeypatch, value):
    """Optuna takes NaN for a failure: the student would be asked for again for ever."""
    trained = []

    def train(config, folder, told, lock):
        assert folder not in trained, 'tried again'
        trained.append(folder)
        metrics = dict(mIoU=value if folder.name == 'rate-0.02' else 1.0)
        told(1, metrics)
        return metrics

    monkeypatch.setattr(trials, 'train', train)
    said = []
    one = Worker(read_search(search(trials=9, space=dict(rate=SPACE['rate']))), tmp_path / 'out', say=said.append)
    study = one.work()
    assert len(trained) == 3
    assert {one.params['rate'] for one in study.get_trials() if one.state.name == 'COMPLETE'} == {'0.01', '0.03'}
    assert study.best_value == 1.0
    assert sum('rate 0.02: its metric is not finite' in line for line in said) == 1


def test_a_search_without_one_finite_metric_ends(search, quick, tmp_path, monkeypatch, capsys):
    def train(config, folder, told, lock):
        assert folder not in quick, 'tried again'
        quick.append(folder)
        return dict(mIoU=math.nan)

    monkeypatch.setattr(trials, 'train', train)
    assert app.main([search(trials=2), '--work-dir', str(tmp_path / 'out')]) == 0
    assert len(quick) == 2
    assert 'no student within the limit came to its end with a finite metric' in capsys.readouterr().out


def test_what_cannot_be_built_is_one_sentence_and_not_at_work(search, quick, tmp_path, monkeypatch):
    monkeypatch.setattr(trials, 'costs_of', lambda config: {}['depth'])
    one = worker(search(trials=1), tmp_path / 'out')
    with pytest.raises(ValueError, match=r"trial 0 \(width \d+, rate [\d.]+\) failed: the key 'depth' is missing"):
        one.work()
    assert [trial.state.name for trial in one.open().get_trials()] == ['FAIL']


def test_a_real_student_is_trained_and_goes_on(search, tmp_path, quick_processes):
    found = worker(search(trials=1, space=dict(rate=SPACE['rate'])), tmp_path / 'out').work().best_trial
    assert 0 <= found.value <= 100
    assert found.user_attrs['costs']['parameters'] > 0
    (folder,) = (tmp_path / 'out/trials').glob('*/*')
    assert (folder / 'iter_4.pth').exists()
    assert json.loads((folder / 'result.json').read_text())['mIoU'] == found.value


def test_a_search_that_was_killed_ends_as_uninterrupted(search, tmp_path, quick_processes):
    """Killed at a validation, when its training goes on alone: another call waits for that and takes both up."""
    file = search(trials=2, seed=SEED_OF_TWO, space=dict(rate=SPACE['rate']))
    whole = worker(file, tmp_path / 'whole').work()
    dying = multiprocessing.get_context('fork').Process(target=_die_at_a_validation, args=(file, tmp_path / 'cut'))
    dying.start()
    dying.join()
    assert dying.exitcode == -signal.SIGKILL
    cut = worker(file, tmp_path / 'cut').work()
    # Which of the two ends first depends on how long the training that goes on alone still takes.
    ended = [
        {one.params['rate']: one.value for one in found.get_trials() if one.value is not None} for found in (whole, cut)
    ]
    assert len(ended[0]) == 2
    assert ended[0] == ended[1]
    assert [one.state.name for one in cut.get_trials()].count('FAIL') == 1, 'the one that was cut off'


SEED_OF_TWO = 2  # draws two students; of one that is still in training the search would try another


def _die_at_a_validation(file, folder):
    real = trials.train
    trials.train = lambda config, where, told, lock: real(
        config, where, lambda step, metrics: os.kill(os.getpid(), signal.SIGKILL), lock
    )
    worker(file, folder).work()


@pytest.mark.parametrize('validations', [1, 2])
def test_a_student_that_was_killed_in_its_last_validation_is_validated(validations, search, tmp_path, quick_processes):
    """Its last checkpoint is there: resumed, it has nothing left to train."""
    found = read_search(search(validations=validations, space=dict(rate=SPACE['rate'])))
    config = config_of(found, dict(rate='0.02'))
    told = []
    with (tmp_path / 'lock').open('wb') as lock:
        whole = trials.train(config, tmp_path / 'whole', lambda number, metrics: told.append(number), lock)
        cut = tmp_path / 'cut'
        shutil.copytree(tmp_path / 'whole', cut)
        (cut / 'result.json').unlink()
        for log in cut.glob('*/vis_data/scalars.json'):
            lines = log.read_text().splitlines()
            last = max(index for index, line in enumerate(lines) if 'iter' not in json.loads(line))
            log.write_text(''.join(f'{line}\n' for index, line in enumerate(lines) if index != last))
        assert trials.train(config, cut, lambda number, metrics: told.append(number), lock) == whole
    assert told == [*range(1, validations + 1)] * 2


def test_two_trainings_never_share_a_folder(search, quick, tmp_path, monkeypatch):
    """What a search that was killed left running still has the lock: its student is waited for, not trained again."""
    file = search(trials=2)
    study = worker(file, tmp_path / 'out').open()
    lost = study.ask()
    chosen = {name: lost.suggest_categorical(name, list(choices)) for name, choices in SPACE.items()}
    folder = folder_of(tmp_path / 'out', read_search(file).digest, chosen)
    folder.mkdir(parents=True)
    lost.set_user_attr('folder', str(folder))
    orphan = subprocess.Popen(['sleep', '3'], pass_fds=[(lock := locked(folder / 'lock')).fileno()])
    lock.close()
    ended = {}

    def train(config, where, told, lock):
        ended[where] = orphan.poll()
        return dict(mIoU=1.0)

    monkeypatch.setattr(trials, 'train', train)
    worker(file, tmp_path / 'out').work()
    assert len(ended) == 2
    assert ended[folder] == 0


def test_a_worker_that_was_gone_before_it_chose_is_left(search, quick, tmp_path, monkeypatch):
    monkeypatch.setattr(studies, 'CHOOSING', 0.0)
    file = search(trials=1)
    worker(file, tmp_path / 'out').open().ask()
    assert [one.state.name for one in worker(file, tmp_path / 'out').work().get_trials()] == ['FAIL', 'COMPLETE']


@pytest.mark.parametrize(
    'options, sentence',
    [
        (dict(space={}), 'space must be a dict of what is varied'),
        (dict(space=dict(width=[8, 16])), 'space.width must be a dict of changes by name'),
        (dict(space=dict(width={8: {}})), 'space.width must have texts as names'),
        (dict(config=3), 'config must name a training config, got 3'),
        (dict(trials=0), 'trials must be at least 1, got 0'),
        (dict(limit=dict(latencyy=3)), 'limit must name one of latency, multiply_adds, parameters'),
        (dict(limit=dict(latency=0)), 'limit must be a number above 0'),
        (dict(limit=dict(latency=True)), 'limit must be a number above 0'),
        (dict(omega=0.07), 'omega must be at most 0'),
        (dict(limits=dict(latency=1)), "limits has no meaning: is 'limit' meant"),
        (dict(options={'model.teacher': None}), 'options: give changes to every trial as --cfg-options'),
        (dict(seed='x'), "seed must be a whole number, got 'x'"),
    ],
)
def test_bad_searches_are_one_sentence(search, options, sentence):
    file = search(**options)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        read_search(file)


def test_without_optuna_it_says_what_to_install(search, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'optuna', None)
    with pytest.raises(ImportError, match=r"pip install 'kddense\[search\]'"):
        studies.Worker(read_search(search()), tmp_path).open()
