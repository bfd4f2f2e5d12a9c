"""Runs of a table whose scripts are played: what goes on from what, what failed, what was changed, how long it took."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from kddense.apps.measure import main, noted, runs
from kddense.apps.measure.result import read_result

THEN = ['--configs', 'mine.py', '--then', 'then.py', '--then-from', 'mine.py']


class Scripts:
    """Plays the stock scripts: a training leaves ``iter_4.pth``, or fails after ``iter_2.pth``."""

    def __init__(self) -> None:
        self.trained: list[tuple[str, int]] = []
        self.begun: dict[str, str | None] = {}
        self.fails: set[str] = set()
        self.scores: dict[str, float] = {}
        self.before = lambda name: None

    def __call__(self, package: str, script: str, config: object, *words: object) -> str:
        folder = Path(str(words[words.index('--work-dir') + 1]))
        if script == 'test.py':
            (folder / 'now').mkdir(parents=True, exist_ok=True)
            (folder / 'now' / 'now.json').write_text(json.dumps(dict(mIoU=self.scores.get(folder.parts[-3], 40.0))))
            return 'test'
        name, seed = folder.parent.name, int(folder.name.removeprefix('seed_'))
        self.trained.append((name, seed))
        self.begun[f'{name}-{seed}'] = os.environ.get('STUDENT')
        self.before(name)
        last = 2 if name in self.fails else 4
        torch.save(dict(state_dict={}, meta=dict(iter=last, epoch=0)), folder / f'iter_{last}.pth')
        if name in self.fails:
            raise subprocess.CalledProcessError(1, ['python', 'train.py'])
        return 'train'


@pytest.fixture
def scripts(segmentor, tmp_path, monkeypatch) -> Scripts:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('STUDENT', raising=False)
    noted._digest.cache_clear()
    noted._inputs.cache_clear()
    for name in ('plain', 'mine', 'then'):
        config = segmentor.plain(train_cfg__max_iters=4)
        config.test_evaluator = dict(type='Some')
        config.dump(f'{name}.py')
    played = Scripts()
    monkeypatch.setattr(runs, '_call', played)
    return played


def measure(*arguments: str, seeds: tuple[str, ...] = ('0', '1')) -> int:
    return main(['--plain', 'plain.py', '--seeds', *seeds, '--work-dir', 'runs', '--package', 'mmseg', *arguments])


def test_nothing_goes_on_from_a_student_that_was_not_trained_to_its_end(scripts, capsys):
    scripts.fails = {'mine'}
    assert measure(*THEN) == 1
    assert [name for name, _ in scripts.trained] == ['plain', 'mine', 'plain', 'mine'], 'the other seed is run'
    said = capsys.readouterr().err
    assert 'then.py, seed 0: runs/mine/seed_0 holds no student of mine.py that was trained to its end' in said

    scripts.fails = set()
    assert measure(*THEN) == 0
    assert scripts.begun['then_from_mine-0'] == 'runs/mine/seed_0/iter_4.pth'


def test_what_went_on_from_a_student_that_was_trained_anew_is_not_taken(scripts, tmp_path):
    assert measure(*THEN) == 0
    assert measure(*THEN, '--report-only') == 0
    result = tmp_path / 'runs/mine/seed_1/result.json'
    result.write_text(result.read_text().replace('40.0', '41.0'))

    with pytest.raises(SystemExit, match=r'then.py, seed 1: .* was trained with other settings than the config'):
        measure(*THEN)


def test_what_learnt_from_another_teacher_is_not_taken(scripts, segmentor):
    config = segmentor.distilled(train_cfg__max_iters=4)
    config.model.teacher.checkpoint = 'teacher.pth'
    config.dump('mine.py')
    Path('teacher.pth').write_bytes(b'first')
    assert measure('--configs', 'mine.py', seeds=('0',)) == 0
    Path('teacher.pth').unlink()
    noted._inputs.cache_clear()
    assert measure('--configs', 'mine.py', seeds=('0',)) == 0, 'a file that is gone changes nothing'
    Path('teacher.pth').write_bytes(b'second')
    noted._inputs.cache_clear()

    with pytest.raises(SystemExit, match='mine.py, seed 0: .* was trained with another teacher.pth than there is now'):
        measure('--configs', 'mine.py')


def test_a_failure_is_known_until_the_run_is_started_again(scripts, capsys):
    scripts.fails = {'mine'}
    assert measure('--configs', 'mine.py') == 1
    capsys.readouterr()

    assert measure('--configs', 'mine.py', '--report-only') == 1
    assert 'mine.py, seed 1: failed, and is left out' in capsys.readouterr().err

    scripts.fails = set()
    assert measure('--configs', 'mine.py') == 0
    assert not list(Path('runs').rglob('failed.txt'))


@pytest.mark.parametrize('file', ['plain.py', 'mine.py'])
def test_no_seed_is_trained_with_another_config_than_the_first(scripts, file):
    def edit(name: str) -> None:
        text = Path(file).read_text()
        Path(file).write_text(text.replace('max_iters=4', 'max_iters=8'))

    scripts.before = edit

    with pytest.raises(SystemExit, match=f'{file}, or a base of it, was changed while the table was at work'):
        measure('--configs', 'mine.py')
    assert len(scripts.trained) == (2 if file == 'plain.py' else 1)


def test_the_imports_of_a_config_are_there_when_it_is_tested(scripts, segmentor):
    config = segmentor.plain(train_cfg__max_iters=4)
    config.custom_imports = dict(imports=['json'], allow_failed_imports=False)
    config.test_evaluator = dict(type='IoUMetric')
    config.dump('plain.py')

    assert measure(seeds=('0',)) == 0
    tested = Config.fromfile('runs/plain/seed_0/tested.py')
    assert tested.custom_imports.imports == ['json', 'kddense']


def test_minutes_are_those_of_all_starts(scripts, tmp_path):
    log = tmp_path / 'runs/plain/seed_0/first/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text(json.dumps(dict(iter=2, step=2, time=30.0)) + '\n')
    torch.save(dict(state_dict={}, meta=dict(iter=2, epoch=0)), log.parents[2] / 'iter_2.pth')
    began = time.time()

    assert measure(seeds=('0',)) == 0

    seconds = read_result(tmp_path / 'runs/plain/seed_0/result.json').seconds
    assert 60 <= seconds <= 60 + time.time() - began


def test_a_try_whose_metric_is_no_number_is_a_try_and_not_the_best(scripts, segmentor):
    segmentor.distilled(train_cfg__max_iters=4).dump('mine.py')
    scripts.scores = {'mine_x1': float('nan'), 'mine_x3': 41.0}

    assert measure('--configs', 'mine.py', '--tries', '1', '3', '--json', 'tries.json') == 0

    tries = json.loads(Path('tries.json').read_text())['tries']
    assert tries['chosen'] == {'mine.py': 3.0}
    assert tries['failed'] == [dict(config='mine.py', factor=1.0)]
