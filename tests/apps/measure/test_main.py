"""The whole tool on a toy segmentor: trained and tested by the stock scripts, never twice, cut off, added to."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from kddense.apps.measure import arguments, main, outcome, runs
from kddense.apps.measure.plan import Job, Plan

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope='module')
def project(segmentor, python, tmp_path_factory):
    """One seed of the plain student, with and without more time, and of a distilled one."""
    folder = tmp_path_factory.mktemp('measured')
    segmentor.plain().dump(folder / 'plain.py')
    segmentor.distilled().dump(folder / 'distilled.py')
    (folder / 'runs').mkdir()
    # Timed before: 1.5 plain steps in the time of a distilled one.
    (folder / 'runs' / 'step_times.json').write_text(json.dumps(dict(ratio={'plain.py': 1.0, 'distilled.py': 1.5})))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv('OMP_NUM_THREADS', '1')
        patch.setattr('sys.executable', python)
        assert main([*COMMAND, '--json', 'measured.json']) == 0
    return folder


COMMAND = [
    '--plain',
    'plain.py',
    '--configs',
    'distilled.py',
    '--seeds',
    '0',
    '--work-dir',
    'runs',
    '--package',
    'mmseg',
]
COMMAND += ['--same-time', '--channels-last', '--cfg-options', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2']
COMMAND += ['default_hooks.checkpoint.interval=1']


@pytest.fixture
def at_work(project, monkeypatch):
    monkeypatch.chdir(project)
    return project


def test_it_trains_tests_and_records(at_work):
    table = json.loads((at_work / 'measured.json').read_text())

    assert table['metric'] == 'mIoU'
    assert table['steps'] == 2
    assert table['plain_same_time']['steps'] == 3
    (row,) = table['rows']
    difference = row['scores']['0'] - table['plain']['scores']['0']
    assert row['paired_mean'] == pytest.approx(difference, abs=1e-3)
    assert row['verdict'] == 'too few seeds'
    low, high = row['images_ci95']
    assert low - 1e-6 <= high
    assert 'seed_0' in row['commands'][0]


def test_options_do_not_take_the_same_time_back(at_work):
    """The length that a person gave is that of the other rows."""
    lengths = {
        path.parents[1].name: Path(path.read_text()).stem for path in at_work.glob('runs/*/seed_0/last_checkpoint')
    }

    assert lengths == {'plain': 'iter_2', 'distilled': 'iter_2', 'plain_same-time-3': 'iter_3'}


@pytest.mark.parametrize('name', ['plain', 'distilled'])
def test_what_was_cut_off_ends_as_it_would_have(name, at_work, tmp_path, monkeypatch):
    """Bit for bit: a pair of which one was interrupted differs in the teacher alone."""
    shutil.copytree(at_work, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / 'runs' / name / 'seed_0'
    (folder / 'result.json').unlink()
    (folder / 'iter_2.pth').unlink()
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_1.pth'))
    assert main(COMMAND) == 0

    whole, resumed = (
        torch.load(root / 'runs' / name / 'seed_0/iter_2.pth', weights_only=False)['state_dict']
        for root in (at_work, tmp_path)
    )
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_row_is_as_long_as_its_checkpoint_says(at_work):
    """A run may have stopped before its config's end, or been given another one."""
    saved = torch.load(at_work / 'runs/plain/seed_0/iter_2.pth', weights_only=False)
    saved['meta']['epoch'] = 1

    assert outcome.steps_done(saved, 'iterations') == 2
    assert outcome.steps_done(saved, 'epochs') == 1


@pytest.mark.parametrize('begun', [False, True])
def test_a_config_that_starts_from_weights_does_so(begun, tmp_path, monkeypatch):
    """The stock scripts forget load_from where --resume finds nothing to go on from."""
    (tmp_path / 'plain.py').write_text("load_from = 'coco.pth'\ntrain_cfg = dict(max_epochs=1)\n")
    folder = tmp_path / 'runs/plain/seed_0'
    folder.mkdir(parents=True)
    if begun:
        torch.save(dict(state_dict={}), folder / 'epoch_1.pth')
    called = []

    def call(package, script, *words):
        called.append(words)
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, '_call', call)
    with pytest.raises(KeyboardInterrupt):
        runs.run(
            Plan('plain.py', (), (0,), tmp_path / 'runs', 'mmdet'),
            Job(str(tmp_path / 'plain.py'), 'plain', 0),
        )
    assert ('--resume' in called[0]) == begun


def test_the_share_of_each_image_sums_up_to_the_metric(at_work):
    folder = at_work / 'runs' / 'plain' / 'seed_0'
    with np.load(folder / 'images.npz') as areas:
        ratio = areas['intersect'].sum(0) / areas['union'].sum(0)
    scores = json.loads((folder / 'result.json').read_text())['scores']
    assert 100 * np.nanmean(ratio) == pytest.approx(scores['mIoU'], abs=0.01)


def test_settings_are_chosen_on_other_images(segmentor, tmp_path, monkeypatch, quick_processes):
    plain = segmentor.plain(train_cfg__max_iters=1, train_cfg__val_interval=2)
    plain.val_dataloader.dataset.indices = 3
    plain.dump(tmp_path / 'plain.py')
    monkeypatch.chdir(tmp_path)
    options = ['--package', 'mmseg', '--seeds', '0', '--json', 'tries.json']

    assert main(['--plain', 'plain.py', '--work-dir', 'runs', '--split', 'val', *options]) == 0

    with np.load('runs/val/plain/seed_0/images.npz') as file:
        assert len(file['intersect']) == 3  # the test split has more
    assert '--split val' in json.loads(Path('tries.json').read_text())['commands'][0]
    nothing_of_the_test_split = main(['--plain', 'plain.py', '--work-dir', 'runs', '--report-only', *options])
    assert nothing_of_the_test_split == 1


def test_what_goes_on_from_a_trained_student_begins_with_its_weights(
    project, segmentor, tmp_path, monkeypatch, quick_processes
):
    """At a rate of 0 the weights stay those of the student of the same seed; the table compares it with the plain one."""
    shutil.copytree(project, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('STUDENT', raising=False)
    resting = segmentor.plain(optim_wrapper__optimizer__lr=0.0)
    resting.param_scheduler = []
    resting.pop('load_from', None)
    resting.dump('goes_on.py')
    with Path('goes_on.py').open('a') as file:
        file.write("\nload_from = '{{$STUDENT:none.pth}}'\n")

    then = ['--then', 'goes_on.py', '--then-from', 'distilled.py', '--json', 'then.json']
    assert main([*COMMAND, *then]) == 0

    began, ended = (torch.load(f'runs/{name}', weights_only=False)['state_dict'] for name in CHECKPOINTS)
    assert torch.equal(began['backbone.layer1.0.conv1.weight'], ended['backbone.layer1.0.conv1.weight'])
    row = json.loads(Path('then.json').read_text())['rows'][1]
    assert (row['config'], row['begins_from'], row['steps']) == ('goes_on.py', 'distilled.py', 2)
    assert row['paired_mean'] is not None
    assert 'STUDENT' not in os.environ


CHECKPOINTS = ['distilled/seed_0/iter_2.pth', 'goes_on_from_distilled/seed_0/iter_2.pth']


def test_a_student_that_nothing_trains(at_work, capsys):
    with pytest.raises(SystemExit):
        main([*COMMAND, '--then', 'goes_on.py', '--then-from', 'other.py'])
    assert '--then-from other.py: it is neither --plain nor one of --configs' in capsys.readouterr().err


def test_nothing_is_run_again(at_work, capsys):
    files = sorted(at_work.glob('runs/*/*/result.json'))
    before = [file.stat().st_mtime_ns for file in files]

    assert main(COMMAND) == 0

    assert len(files) == 3
    assert [file.stat().st_mtime_ns for file in files] == before
    assert re.search(r'^\| distilled \| 1 \|', capsys.readouterr().out, flags=re.MULTILINE)


def test_results_of_other_machines_fill_the_table(at_work, tmp_path, capsys):
    for name in ('plain', 'distilled'):
        file = shutil.copy(at_work / 'runs' / name / 'seed_0' / 'result.json', tmp_path / f'{name}.json')
        contents = json.loads(Path(file).read_text())
        Path(file).write_text(json.dumps({**contents, 'seed': 1}))

    main([*COMMAND, '--report-only', '--add', *map(str, sorted(tmp_path.glob('*.json'))), 'nowhere.json'])

    out, said = capsys.readouterr()
    assert '| distilled | 2 |' in out
    assert 'nowhere.json' in said
    assert 'distilled.py, seed 1: there is no run of the plain student with the same time of this seed' in said


def test_a_run_that_was_cut_off_is_named_and_the_rest_shown(at_work, tmp_path, capsys):
    shutil.copytree(at_work / 'runs', tmp_path / 'runs')
    (tmp_path / 'runs' / 'distilled' / 'seed_0' / 'result.json').unlink()

    main([*COMMAND, '--report-only', '--work-dir', str(tmp_path / 'runs')])

    out, said = capsys.readouterr()
    assert '| plain student' in out
    assert (
        'distilled.py, seed 0: the run was cut off after iter 2, or was not tested; call the same command again' in said
    )


def test_names_that_a_person_gave_are_kept(at_work, tmp_path, capsys):
    recorded = json.loads((at_work / 'measured.json').read_text())
    recorded['rows'][0]['title'] = 'Mine'
    recorded['teacher'] = dict(config='teacher.py', scores=dict(mIoU=50.0))
    (tmp_path / 'measured.json').write_text(json.dumps(recorded))

    main([*COMMAND, '--report-only', '--json', str(tmp_path / 'measured.json')])
    capsys.readouterr()
    assert main(['--show', str(tmp_path / 'measured.json'), 'nowhere.json']) == 0

    out, said = capsys.readouterr()
    assert '| Mine | 1 |' in out
    assert '| teacher | 1 | 50.00 |' in out
    assert 'nowhere.json' in said


def test_nothing_measured_yet(at_work, tmp_path, capsys):
    assert main(['--plain', 'plain.py', '--work-dir', str(tmp_path), '--report-only']) == 1
    assert 'nothing is measured yet' in capsys.readouterr().err


def test_the_script_needs_to_know_what(python):
    done = subprocess.run([python, ROOT / 'tools' / 'measure.py'], capture_output=True, text=True)

    assert done.returncode == 2
    assert 'give --plain and --work-dir, or --show and recorded tables' in done.stderr


def test_a_run_with_other_settings_is_not_taken_for_done(at_work, tmp_path, capsys):
    """Neither is it gone on with: its scores would be of what nobody asked for."""
    shutil.copytree(at_work / 'runs', tmp_path / 'runs')
    changed = [*COMMAND, '--work-dir', str(tmp_path / 'runs'), '--cfg-options', 'train_cfg.max_iters=3']

    with pytest.raises(SystemExit, match=r'plain.py, seed 0: .*seed_0 was trained with other settings than the config'):
        main(changed)
    assert main([*changed, '--report-only']) == 1
    assert 'plain.py, seed 0: ' in capsys.readouterr().err


def test_two_configs_of_one_name(capsys):
    with pytest.raises(SystemExit):
        main(['--plain', 'plain.py', '--configs', 'a/mine.py', 'b/mine.py', '--work-dir', 'runs'])
    assert 'runs of a/mine.py and b/mine.py would share a folder' in capsys.readouterr().err


def test_the_same_time_is_that_of_the_configs_at_hand(at_work, tmp_path):
    """Not that of a dearer one that was timed there before."""
    times = dict(ratio={'plain.py': 1.0, 'distilled.py': 1.5, 'dearer.py': 4.0})
    (tmp_path / 'step_times.json').write_text(json.dumps(times))
    args = arguments.parse([*COMMAND, '--work-dir', str(tmp_path)], None)

    assert arguments.same_time_steps(args) == 3


def test_a_step_is_timed_again_when_the_config_or_an_option_has_changed(at_work, tmp_path, monkeypatch):
    timed = []

    def times(configs, *others):
        timed.append(configs)
        return dict(seconds={}, ratio={'plain.py': 1.0, 'distilled.py': float(len(timed) + 1)}, rounds=8)

    monkeypatch.setattr(arguments, 'step_times', times)

    def steps(*changes):
        return arguments.same_time_steps(arguments.parse([*COMMAND, '--work-dir', str(tmp_path), *changes], None))

    assert [steps(), steps(), steps('--report-only')] == [4, 4, 4]
    assert steps('--cfg-options', 'train_cfg.max_iters=2', 'train_dataloader.batch_size=16') == 6
    assert steps('--report-only') is None, 'that time is of other batches'
    assert timed == [['plain.py', 'distilled.py']] * 2


def test_a_metric_that_no_run_has(at_work, capsys):
    assert main([*COMMAND, '--report-only', '--metric', 'mDice']) == 1
    assert "plain.py, seed 0: the metric 'mDice' is absent (it has " in capsys.readouterr().err


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (['--json', 'nowhere/measured.json'], '--json: there is no folder nowhere'),
        (['--json', 'plain.py'], 'plain.py is no JSON'),
        (['--teacher', 'plain.py', 'plain.py'], '--teacher: plain.py holds no metrics that a test wrote'),
        (['--teacher', 'nowhere.py', 'metrics.json'], 'nowhere.py'),
    ],
)
def test_what_cannot_be_recorded_is_refused_before_anything_is_trained(at_work, tmp_path, options, said):
    (at_work / 'metrics.json').write_text('{"mIoU": 50.0}')
    with pytest.raises(SystemExit, match=said):
        main([*COMMAND, '--work-dir', str(tmp_path / 'runs'), *options])
    assert not list(tmp_path.glob('runs/*/*'))


def test_the_teachers_row_has_its_size(at_work, segmentor, capsys):
    (at_work / 'metrics.json').write_text('{"mIoU": 50.0}')

    main([*COMMAND, '--report-only', '--teacher', 'plain.py', 'metrics.json'])

    assert re.search(r'^\| teacher, 0.\d M parameters \| 1 \| 50.00 \|', capsys.readouterr().out, flags=re.MULTILINE)
