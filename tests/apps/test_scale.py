"""The cost model of many devices: by hand, from recorded rows, and against steps that were taken."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from kddense.apps.processes import compared, measure_processes
from kddense.apps.scale import Machine, Pieces, exchange, main, predict

RECORD = Path(__file__).parents[2] / 'configs' / 'chen2017' / 'cost_rows_h100.json'
IDEAL = Machine(per_node=4, inside=100.0, between=10.0, latency=0.0, overlap=0.0, jitter=0.0, disk=math.inf)
PIECES = Pieces({'plain': 1.0, 'online': 2.0, 'cached': 1.1}, images=2, gradients=80.0, answers=5.0)


class TestExchange:
    @pytest.mark.parametrize(
        ('devices', 'seconds'),
        [(1, 0), (2, 2 * 1 / 2 * 0.8), (4, 2 * 3 / 4 * 0.8), (8, 2 * 3 / 4 * 0.8 + 2 * 1 / 2 * 8)],
    )
    def test_rings(self, devices, seconds):
        assert exchange(80.0, devices, IDEAL) == pytest.approx(seconds)

    def test_messages_between_nodes_take_their_time(self):
        slow = replace(IDEAL, latency=1.0)
        assert exchange(80.0, 32, slow) - exchange(80.0, 32, IDEAL) == pytest.approx(2 * 3)  # 8 nodes, there and back
        assert exchange(80.0, 4, slow) == exchange(80.0, 4, IDEAL)


class TestPredicting:
    def test_one_device_takes_what_was_measured(self):
        assert predict(PIECES, Machine(), 1) == pytest.approx(PIECES.rows)

    def test_what_is_not_hidden_is_waited_for(self):
        found = predict(PIECES, IDEAL, 4)
        assert found == pytest.approx({row: seconds + 1.2 for row, seconds in PIECES.rows.items()})
        hidden = predict(PIECES, replace(IDEAL, overlap=0.9), 4)  # 0.6 of 1.2 seconds
        assert hidden == pytest.approx({row: seconds + 0.6 for row, seconds in PIECES.rows.items()})

    def test_only_what_reads_waits_for_the_disk(self):
        found = predict(replace(PIECES, gradients=0.0), replace(IDEAL, disk=10.0), 8)  # 4 devices, 2 images, 5 bytes
        assert found == pytest.approx({'plain': 1.0, 'online': 2.0, 'cached': 4.0})
        shared = predict(replace(PIECES, gradients=0.0), replace(IDEAL, storage=10.0), 8)
        assert shared['cached'] == pytest.approx(8.0)

    def test_all_wait_for_the_slowest(self):
        found = predict(replace(PIECES, gradients=0.0), replace(IDEAL, jitter=0.1), 100)
        assert found['plain'] == pytest.approx(1 + 0.1 * math.sqrt(2 * math.log(100)))

    def test_processes_share_cores(self):
        found = predict(replace(PIECES, gradients=0.0), replace(IDEAL, cores=2.0), 4)
        assert found['online'] == pytest.approx(4.0)


class TestCommand:
    def test_recorded_rows(self, capsys, tmp_path):
        main(
            [
                str(RECORD),
                '--step',
                '2',
                '--gradients',
                '166',
                '--devices',
                '1',
                '64',
                '--json',
                str(tmp_path / 'f.json'),
            ]
        )
        first, last = json.loads((tmp_path / 'f.json').read_text())
        assert first['seconds']['plain'] == pytest.approx(0.2728)
        assert first['images']['plain'] == pytest.approx(8 / 0.2728)
        assert 0.5 * 64 < last['images']['cached'] / first['images']['cached'] < 64
        assert f'{1000 * last["seconds"]["online"]:.1f} ms' in capsys.readouterr().out

    def test_what_is_no_record(self, tmp_path, capsys):
        (tmp_path / 'f.json').write_text('{"rows": {}}')
        with pytest.raises(SystemExit, match=r'f\.json holds no rows of steps: write it with kddense benchmark'):
            main([str(tmp_path / 'f.json')])
        for arguments, fault in (
            ([], 'give a file of rows, or --measure'),
            (['--measure', '2', '--config', 'x.py'], 'and 1'),
        ):
            with pytest.raises(SystemExit):
                main(arguments)
            assert fault in capsys.readouterr().err

    @pytest.mark.parametrize(
        ('changes', 'step', 'fault'),
        [
            (dict(rows=dict(plain=0)), '0', r'\(.*plain must be above 0'),
            (dict(rows=dict(plain=1.0, online=math.nan)), '0', r'\(.*online must be above 0'),
            (dict(shape=[0, 64, 64]), '0', r'\(.*shape must be above 0'),
            ({}, '1', r'^error: --step 1: \S+ holds 1, counted from 0$'),
            ({}, '-1', r'^error: --step -1: '),
        ],
    )
    def test_rows_that_no_step_has(self, changes, step, fault, tmp_path):
        (tmp_path / 'f.json').write_text(json.dumps(dict(rows=dict(plain=100.0), shape=[2, 64, 64]) | changes))
        with pytest.raises(SystemExit, match=fault):
            main([str(tmp_path / 'f.json'), '--step', step])

    @pytest.mark.parametrize(
        ('option', 'value', 'fault'),
        [
            *(
                (f'--{name}', value, 'above 0')
                for name in ('inside', 'disk', 'storage')
                for value in ('0', '-1', 'nan')
            ),
            *(
                (f'--{name}', value, 'of at least 0')
                for name in ('gradients', 'answers')
                for value in ('-1', 'nan', 'inf')
            ),
        ],
    )
    def test_machines_that_are_none(self, option, value, fault, capsys):
        with pytest.raises(SystemExit):
            main([str(RECORD), option, value])
        assert f"argument {option}: must be a number {fault}, got '{value}'" in capsys.readouterr().err

    def test_answers_in_memory_are_not_read_from_a_disk(self, capsys):
        tables = []
        for disk in ('inf', '1e9'):
            main([str(RECORD), '--answers', '91', '--disk', disk])
            tables.append(capsys.readouterr().out)
        assert tables[0] == tables[1]


def test_prediction_and_measurement(segmentor, tmp_path):
    """Processors' time of 1, 2 and 4 processes; other jobs on the machine move it a little."""
    segmentor.distilled().dump(tmp_path / 'config.py')
    found = measure_processes(str(tmp_path / 'config.py'), (2, 64, 64), [1, 2, 4], rounds=5)
    assert found['pieces']['gradients'] > 1e5
    assert found['measured'][1]['plain'] < found['measured'][1]['online']
    for number in (2, 4):
        for row, error in found['error'][number].items():
            assert -0.5 < error < 1.0, (number, row, found)
    assert len(compared(found).splitlines()) == 1 + 3 * 2
