"""Tables of measured runs: trained and tested by the stock scripts, never twice."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / 'tools' / 'measure_table.py'


@pytest.fixture(scope='module')
def project(detector, tmp_path_factory):
    folder = tmp_path_factory.mktemp('table')
    short = dict(train_cfg__max_epochs=1, train_cfg__val_interval=1)
    # Hardly trained, it is sure of nothing: keep what it is unsure of, so that there is a score.
    detector.plain(**short, model__test_cfg__rcnn__score_thr=0.0).dump(folder / 'plain.py')
    detector.distilled(**short).dump(folder / 'distilled.py')
    return folder


@pytest.fixture(scope='module')
def measure(python):
    def run(project, *options: str) -> str:
        configs = ['--plain', 'plain.py', '--configs', 'distilled.py', '--seeds', '0', '1', '--work-dir', 'runs']
        command = [python, str(SCRIPT), *configs, *options]
        environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=True).stdout

    return run


def test_mean_and_deviation_of_every_config(measure, project):
    table = measure(project)
    rows = re.findall(r'^\| (plain|distilled) \| 2 \| (.*) \|$', table, flags=re.MULTILINE)
    assert [name for name, _ in rows] == ['plain', 'distilled']
    scores = [
        json.loads((project / 'runs' / 'plain' / f'seed_{seed}' / 'result.json').read_text())['scores']['coco/bbox_mAP']
        for seed in (0, 1)
    ]
    mean = 100 * sum(scores) / 2
    assert rows[0][1].startswith(f'{mean:.2f} ± ')

    files = sorted(project.glob('runs/*/*/result.json'))
    before = [file.stat().st_mtime_ns for file in files]
    assert len(files) == 4
    assert rows == re.findall(r'^\| (plain|distilled) \| 2 \| (.*) \|$', measure(project), flags=re.MULTILINE)
    assert [file.stat().st_mtime_ns for file in files] == before  # nothing was run again


def test_depth_metrics_have_digits_enough(measure, tmp_path):
    """They are metres and fractions, where the others are percentages."""
    for seed, value in enumerate((0.1234, 0.1236)):
        result = dict(scores={'abs_rel': value, 'mIoU': 21.741}, seconds=60)
        folder = tmp_path / 'runs' / 'plain' / f'seed_{seed}'
        folder.mkdir(parents=True)
        (folder / 'result.json').write_text(json.dumps(result))
    for name in ('plain.py', 'distilled.py'):
        (tmp_path / name).touch()

    assert '| plain | 2 | 0.1235 ± 0.0001 | 21.74 ± 0.00 |' in measure(tmp_path, '--report-only')


def test_a_report_alone_trains_nothing(measure, project):
    measure(project)
    (project / 'runs' / 'distilled' / 'seed_1' / 'result.json').unlink()
    assert '| distilled | 1 |' in measure(project, '--report-only')
