"""Tables of results: who is paired with whom, what is left out and why, and the form in which they are recorded."""

import json
from dataclasses import replace

import pytest

from kddense.apps.measure.markdown import markdown, over_images
from kddense.apps.measure.recorded import as_json, read_table
from kddense.apps.measure.result import Result, read_result, write_result
from kddense.apps.measure.table import make_table

SETTING = dict(train=dict(data=['data/a/train'], sizes=['Resize 64x64']), test=dict(data=['data/a/test'], sizes=[]))


def result(role='plain', seed=0, score=40.0, config=None, metric='mIoU', **others):
    config = config or ('plain.py' if role.startswith('plain') else 'mine.py')
    fields = dict(steps=100, seconds=60.0, parameters=1_500_000, setting=SETTING, machine='a machine', commands=['go'])
    return Result(config=config, role=role, seed=seed, scores={metric: score, 'aAcc': 80.0}, **{**fields, **others})


PLAIN = [result(seed=seed, score=40.0 + seed) for seed in (0, 1, 2)]
MINE = [result('distilled', seed, 41.0 + seed + 0.1 * seed) for seed in (0, 1, 2)]


def test_pairs_are_of_one_seed():
    table = make_table([*MINE, *reversed(PLAIN)])

    (row,) = table.contents['rows']
    assert table.faults == []
    assert row['scores'] == {'0': 41.0, '1': 42.1, '2': 43.2}
    assert row['paired_mean'] == pytest.approx(1.1)
    assert row['paired_ci95'] == pytest.approx([1.1 - 4.3027 * 0.1 / 3**0.5, 1.1 + 4.3027 * 0.1 / 3**0.5], abs=1e-4)
    assert row['verdict'] == 'helps'
    assert row['same_time'] is None
    assert table.contents['plain']['scores'] == {'0': 40.0, '1': 41.0, '2': 42.0}


def test_lower_errors_are_gains():
    results = [replace(one, scores={'abs_rel': one.scores['mIoU'] / 100}) for one in (*PLAIN, *MINE)]

    (row,) = make_table(results).contents['rows']

    assert row['paired_mean'] == pytest.approx(-0.011)
    assert row['verdict'] == 'harms'


def test_the_row_with_the_same_time_is_paired_too():
    longer = [result('plain, same time', seed, 44.0 + seed, steps=170) for seed in (0, 1, 2)]

    table = make_table([*PLAIN, *MINE, *longer])

    assert table.faults == []
    assert table.contents['plain_same_time']['steps'] == 170
    (row,) = table.contents['rows']
    assert row['same_time']['paired_mean'] == pytest.approx(-2.9)
    assert row['same_time']['verdict'] == 'harms'
    assert '-2.90 [-3.15, -2.65], harms' in markdown(table.contents)


def test_rows_may_have_plain_students_of_their_own_times():
    others = [replace(one, config='other.py', scores={'mIoU': one.scores['mIoU'] + 1}) for one in MINE]
    third = [replace(one, config='third.py') for one in MINE]
    longer = [result('plain, same time', seed, 41.0 + seed, steps=110, time_of='mine.py') for seed in (0, 1, 2)]
    longer += [result('plain, same time', seed, 46.0 + seed, steps=300, time_of='other.py') for seed in (0, 1, 2)]

    table = make_table([*PLAIN, *MINE, *others, *third, *longer], time_by_seed=True)

    assert table.faults == []
    found = {row['config']: row['same_time'] and row['same_time']['paired_mean'] for row in table.contents['rows']}
    assert found == {'mine.py': pytest.approx(0.1), 'other.py': pytest.approx(-3.9), 'third.py': None}
    assert table.contents['plain_same_time'] is None
    assert {row: one['steps'] for row, one in table.contents['plain_same_time_of'].items()} == {
        'mine.py': 110,
        'other.py': 300,
    }
    assert '| plain student, same time as other, 1.5 M parameters | 3 | 47.00 ± 1.00 |' in markdown(table.contents)


def test_a_missing_seed_of_a_pair_is_named_and_the_rest_shown():
    table = make_table([*PLAIN[:2], *MINE])

    assert table.faults == ['mine.py, seed 2: there is no plain run of this seed to pair it with']
    assert table.contents['rows'][0]['paired_mean'] == pytest.approx(1.05)


def test_a_seed_that_only_the_plain_student_has_is_no_fault():
    assert make_table([*PLAIN, *MINE[:1]]).contents['rows'][0]['verdict'] == 'too few seeds'


def test_other_steps_are_left_out():
    table = make_table([*PLAIN, *MINE[:2], replace(MINE[2], steps=90)])

    (fault,) = table.faults
    assert 'mine.py, seed 2: it was trained for 90 steps, the plain student for 100, so it is left out' in fault
    assert table.contents['rows'][0]['seeds'] == [0, 1]


def test_what_goes_on_from_a_trained_student_may_be_shorter():
    goes_on = [replace(one, role='continued', steps=25, begins_from='plain.py') for one in MINE]

    table = make_table([*PLAIN, *MINE, *goes_on])

    assert table.faults == []
    assert [(row['steps'], row.get('begins_from')) for row in table.contents['rows']] == [(100, None), (25, 'plain.py')]


def test_a_metric_that_is_no_number_is_named_and_compared_with_nothing():
    table = make_table([*PLAIN, *MINE[:2], replace(MINE[2], scores=dict(mIoU=float('nan')))])

    assert table.faults == ['mine.py, seed 2: its mIoU is nan, so it is left out']
    assert table.contents['rows'][0]['seeds'] == [0, 1]


def test_an_absent_metric_is_named():
    table = make_table([*PLAIN, *MINE[:2], replace(MINE[2], scores={'aAcc': 80.0})], metric='mIoU')

    assert table.faults == ["mine.py, seed 2: the metric 'mIoU' is absent (it has aAcc), so it is left out"]
    assert table.contents['rows'][0]['seeds'] == [0, 1]


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (
            dict(test=dict(data=['data/b/test'], sizes=[])),
            "its testing data is data/b/test, the plain student's data/a/test",
        ),
        (
            dict(train=dict(data=['data/a/train'], sizes=['Resize 32x32'])),
            "its training sizes is Resize 32x32, the plain student's Resize 64x64",
        ),
    ],
)
def test_two_data_sets_or_sizes_make_no_table(change, said):
    table = make_table([*PLAIN, *MINE[:2], replace(MINE[2], setting={**SETTING, **change})])

    assert table.faults == [
        f'mine.py, seed 2: {said}; runs of other data stand in a table of their own, so it is left out'
    ]
    assert table.contents['rows'][0]['seeds'] == [0, 1]


@pytest.mark.parametrize(
    ('batch', 'fits'),
    [
        (dict(batch_size=4, unlabelled=4), True),  # beside the labelled images
        (dict(batch_size=2, unlabelled=2), True),  # in place of half of them
        (dict(batch_size=2, unlabelled=4), False),
        (dict(batch_size=2), False),
    ],
)
def test_images_without_labels_may_stand_beside_labelled_ones_or_in_their_place(batch, fits):
    def with_batch(results, batch):
        return [replace(one, setting={**SETTING, 'train': {**SETTING['train'], **batch}}) for one in results]

    table = make_table([*with_batch(PLAIN, dict(batch_size=4)), *with_batch(MINE, batch)])

    assert bool(table.contents['rows']) == fits
    if not fits:
        assert "its training batch size is 2, the plain student's 4" in table.faults[0]


def test_without_a_plain_student_nothing_is_compared():
    table = make_table(MINE)

    assert table.faults[0] == 'there is no run of the plain student, so nothing is compared'
    assert table.contents['rows'][0]['scores'] == {'0': 41.0, '1': 42.1, '2': 43.2}
    assert table.contents['rows'][0]['paired_mean'] is None


def test_a_result_that_was_given_twice_counts_once():
    again = replace(MINE[0], scores={'mIoU': 90.0})

    table = make_table([*PLAIN, *MINE, MINE[1], again])

    assert table.faults == ['mine.py, seed 0: there are two results of this run that differ; the first one counts']
    assert table.contents['rows'][0]['scores']['0'] == 41.0


def test_machines_fill_one_table():
    table = make_table([*PLAIN, *(replace(one, machine='another') for one in MINE)])

    assert table.contents['machine'] == 'a machine; another'


def test_results_and_tables_come_back_from_their_files(tmp_path):
    write_result(MINE[0], tmp_path / 'result.json')
    table = make_table([*PLAIN, *MINE])
    table.write(tmp_path / 'measured.json')

    assert read_result(tmp_path / 'result.json') == MINE[0]
    assert read_table(tmp_path / 'measured.json') == json.loads(json.dumps(table.contents))
    assert not list(tmp_path.glob('*.part'))


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('[1', 'is no JSON'),
        ('{"config": "a.py"}', 'is not the result of a run: it needs config, role, scores, seed, steps'),
        ('{"config": "a", "role": "x", "seed": 0, "steps": 1, "scores": {}}', "role must be one of .*, got 'x'"),
    ],
)
def test_files_that_are_no_results(tmp_path, text, message):
    (tmp_path / 'result.json').write_text(text)

    with pytest.raises(ValueError, match=message):
        read_result(tmp_path / 'result.json')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{', 'is no JSON'),
        ('[]', "is no table of measured runs: it must be a dict with 'rows'"),
        ('{"rows": [{"config": "a.py"}]}', "the row of a.py lacks 'metric'"),
    ],
)
def test_files_that_are_no_tables(tmp_path, text, message):
    (tmp_path / 'measured.json').write_text(text)

    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / 'measured.json')


def test_json_in_short_lines():
    contents = dict(rows=[dict(config='a' * 100, scores={'0': 1.0})], none=None, empty={})

    text = as_json(contents)

    assert json.loads(text) == contents
    assert '"scores": {"0": 1.0}' in text
    assert max(map(len, text.splitlines())) <= 120


def test_a_plain_run_of_other_steps_is_paired_with_nothing():
    table = make_table([*PLAIN[:2], replace(PLAIN[2], steps=90), *MINE])

    assert table.faults == [
        'plain.py, seed 2 (plain): it was trained for 90 steps, other seeds for 100, so it is left out',
        'mine.py, seed 2: there is no plain run of this seed to pair it with',
    ]
    assert table.contents['plain']['seeds'] == [0, 1]
    assert table.contents['rows'][0]['paired_mean'] == pytest.approx(1.05)


def test_runs_of_the_same_time_on_two_machines_are_as_long():
    longer = [result('plain, same time', seed, 44.0, steps=steps) for seed, steps in enumerate((170, 170, 200))]

    table = make_table([*PLAIN, *MINE, *longer])

    assert 'plain.py, seed 2 (plain, same time): it was trained for 200 steps, other seeds for 170' in table.faults[0]
    assert table.contents['rows'][0]['same_time']['seeds'] == [0, 1]


def test_a_table_with_rows_alone_is_shown(tmp_path):
    """The least that a recorded table has."""
    row = dict(config='mine.py', metric='mIoU', seeds=[0], scores={'0': 41.0}, paired_mean=1.0, paired_ci95=[0.5, 1.5])
    (tmp_path / 'measured.json').write_text(json.dumps(dict(rows=[row])))

    assert '| mine | 1 | 41.00 | +1.00 [0.50, 1.50] | helps |' in markdown(read_table(tmp_path / 'measured.json'))


def test_rows_of_two_metrics_are_no_table(tmp_path):
    row = dict(config='mine.py', metric='mIoU', seeds=[0], scores={'0': 41.0}, paired_mean=1.0, paired_ci95=None)
    (tmp_path / 'measured.json').write_text(json.dumps(dict(rows=[row, {**row, 'metric': 'abs_rel'}])))

    with pytest.raises(ValueError, match='rows of mIoU and of abs_rel stand in no table together'):
        read_table(tmp_path / 'measured.json')


def test_metrics_beside_the_one_that_decides_are_shown_where_there_are_any():
    shown = markdown(make_table([*PLAIN, *MINE]).contents)
    bare = [replace(one, scores={'mIoU': one.scores['mIoU']}) for one in (*PLAIN, *MINE)]

    assert '| pixel accuracy |' in shown
    assert 'pixel accuracy' not in markdown(make_table(bare).contents)


def test_an_interval_over_images_is_told_beside_the_table():
    contents = make_table([*PLAIN, *MINE]).contents
    assert over_images(contents) == []

    contents['rows'][0]['images_ci95'] = [0.5, 1.75]

    assert over_images(contents) == ['mine: over the test images +1.10 [0.50, 1.75]']
