"""The log of a run that starts through a door of kddense: warnings mean something there."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from kddense.apps import report
from kddense.apps.noise import KNOWN_LOGS, KNOWN_WARNINGS, ignore_known_warnings, is_news

TOOLS = Path(__file__).parents[2] / 'tools'


def test_a_stock_run_warns_of_three_things_at_most(structured, tmp_path):
    config = structured.distilled(train_cfg__max_iters=1, train_cfg__val_interval=1)
    config.dump(tmp_path / 'distil.py')
    command = [sys.executable, TOOLS / 'train.py', tmp_path / 'distil.py', '--work-dir', tmp_path / 'run']
    run = subprocess.run(command, capture_output=True, text=True, cwd=TOOLS.parent)
    lines = (run.stdout + run.stderr).splitlines()
    said = [line for line in lines if ' - WARNING - ' in line or 'Warning: ' in line]

    assert run.returncode == 0, run.stderr[-500:]
    assert any('distill.' in line for line in lines)
    assert len(said) <= 3, said


def record(text: str, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord('mmengine', level, __file__, 1, text, None, None)


def test_what_is_known_is_left_out_and_all_else_is_shown():
    assert not any(is_news(record(f'{text} and so on')) for text in KNOWN_LOGS)
    assert is_news(record('teacher.checkpoint is None: the teacher is untrained'))
    assert is_news(record(KNOWN_LOGS[0], logging.ERROR))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        ignore_known_warnings()
        for text in (*KNOWN_WARNINGS, 'the learning rate is 0'):
            warnings.warn(f'{text} and so on', stacklevel=1)
    assert [str(one.message) for one in caught] == ['the learning rate is 0 and so on']


def test_a_report_leaves_out_what_is_known_too(monkeypatch, tmp_path):
    def warn(**_):
        warnings.warn(f'{KNOWN_WARNINGS[-1]} and so on', stacklevel=1)
        warnings.warn('the learning rate is 0', stacklevel=1)
        raise OSError('that was all')

    (tmp_path / 'epoch_1.pth').write_bytes(b'')
    monkeypatch.setattr(report, 'write_report', warn)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        with pytest.raises(SystemExit, match='that was all'):
            report.main(['--distilled', str(tmp_path)])
    said = [str(one.message) for one in caught]
    assert 'the learning rate is 0' in said
    assert not any(text.startswith(KNOWN_WARNINGS) for text in said)
