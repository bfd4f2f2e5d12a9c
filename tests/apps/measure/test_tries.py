"""Tries of weights: what is multiplied, when a choice is made, and that all tries are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kddense.apps.measure import main
from kddense.apps.measure.markdown import markdown
from kddense.apps.measure.result import Result
from kddense.apps.measure.table import make_table
from kddense.apps.measure.tries import Try, choose, weighed
from kddense.errors import ConfigError

TRIES = [Try('a.py', factor, f'a_x{factor:g}.py') for factor in (0.3, 1.0, 3.0)]


@pytest.mark.parametrize(
    ('objective', 'weight'),
    [
        (dict(type='kddense.PixelWiseObjective', weight=2), 6),
        (dict(type='kddense.PixelWiseObjective'), 30.0),
        (dict(type='kddense.CWDObjective'), 9.0),  # its default depends on what it compares
        (dict(type='kddense.CWDObjective', compare='feature', weight=None), 150.0),
        (dict(type='kddense.PixelWiseObjective', weight='10%'), '30%'),
        (
            dict(type='kddense.PixelWiseObjective', weight=dict(value=2.0, decay='linear', end_value=1.0, stop=0.5)),
            dict(value=6.0, decay='linear', end_value=3.0, stop=0.5),
        ),
        (dict(type='kddense.PixelWiseObjective', weight=dict(value='5 %', every=10)), dict(value='15%', every=10)),
        (dict(type='kddense.PixelWiseObjective', weight=0), 0),
    ],
)
def test_a_weight_is_multiplied_whatever_its_form(segmentor, objective, weight):
    config = segmentor.distilled(dict(one=objective))

    changed = weighed(config, 3.0)

    assert changed.model.objectives.one.weight == weight
    assert {**changed.model.objectives.one, 'weight': 0} == {**objective, 'weight': 0}
    assert config.model.objectives.one == objective  # a copy was changed


def test_recipes_by_name_are_multiplied_too(segmentor):
    config = segmentor.distilled()
    config.model.objectives = ['hinton', 'cwd']

    objectives = weighed(config, 0.5).model.objectives

    assert len(objectives) == 2
    assert objectives.cwd.weight == 1.5


@pytest.mark.parametrize(
    ('objectives', 'said'),
    [
        (None, r'^model.objectives is missing: tries are of the weights of a config that distils'),
        (dict(one=dict(type='kddense.PixelWiseObjective', weight=-1)), r'^model.objectives.one.* got -1'),
    ],
)
def test_what_has_no_weights(segmentor, objectives, said):
    config = segmentor.plain() if objectives is None else segmentor.distilled(objectives)

    with pytest.raises(ConfigError, match=said):
        weighed(config, 3.0)


def results(scores, seeds=(0, 1), metric='mIoU'):
    made = [Result('plain.py', 'plain', seed, 100, {metric: 40.0}) for seed in seeds]
    for file, score in scores.items():
        made += [Result(file, 'distilled', seed, 100, {metric: score + seed}) for seed in seeds]
    return made


def test_the_best_mean_is_chosen_and_all_tries_are_kept():
    contents = make_table(results({'a_x0.3.py': 41.0, 'a_x1.py': 43.0, 'a_x3.py': 42.0})).contents

    assert choose(contents, TRIES, (0, 1), []) == []

    assert contents['tries'] == dict(factors=[0.3, 1.0, 3.0], seeds=[0, 1], failed=[], chosen={'a.py': 1.0})
    assert [(row['config'], row['factor']) for row in contents['rows']] == [('a.py', 0.3), ('a.py', 1.0), ('a.py', 3.0)]
    shown = markdown(contents)
    assert '| **a, weights × 1, chosen** |' in shown
    assert '| a, weights × 0.3 |' in shown


def test_of_errors_the_lowest_is_chosen():
    contents = make_table(results({'a_x0.3.py': 0.2, 'a_x1.py': 0.3, 'a_x3.py': 0.4}, metric='abs_rel')).contents

    choose(contents, TRIES, (0, 1), [])

    assert contents['tries']['chosen'] == {'a.py': 0.3}


def test_nothing_is_chosen_of_fewer_tries_than_others_had():
    """Two configs; of one the last try lacks a seed."""
    others = [replace(one, config='b.py', file=f'b{one.file[1:]}') for one in TRIES]
    made = results({f'{name}_x{factor}.py': 41.0 for name in 'ab' for factor in ('0.3', '1', '3')})[:-1]
    contents = make_table(made).contents

    faults = choose(contents, [*TRIES, *others], (0, 1), [])

    assert faults == ['b.py: 2 of 3 tries are whole, so none is chosen: every method has as many']
    assert contents['tries']['chosen'].keys() == {'a.py'}


def test_a_try_that_failed_is_a_try():
    contents = make_table(results({'a_x0.3.py': 41.0, 'a_x1.py': 43.0})).contents

    assert choose(contents, TRIES, (0, 1), ['a_x3.py']) == []

    assert contents['tries']['chosen'] == {'a.py': 1.0}
    assert contents['tries']['failed'] == [dict(config='a.py', factor=3.0)]


def test_the_whole_of_it(segmentor, tmp_path, monkeypatch, quick_processes, capfd):
    """Of two factors one is too large for any number; both are tried on validation images."""
    segmentor.plain(train_cfg__max_iters=1, train_cfg__val_interval=2).dump(tmp_path / 'plain.py')
    segmentor.distilled(train_cfg__max_iters=1, train_cfg__val_interval=2).dump(tmp_path / 'mine.py')
    monkeypatch.chdir(tmp_path)
    command = [
        '--plain',
        'plain.py',
        '--configs',
        'mine.py',
        '--package',
        'mmseg',
        '--seeds',
        '0',
        '--work-dir',
        'runs',
    ]

    assert main([*command, '--tries', '0.5', '1e60', '--json', 'tries.json']) == 1

    table = json.loads(Path('tries.json').read_text())
    assert table['tries']['chosen'] == {'mine.py': 0.5}
    assert table['tries']['failed'] == [dict(config='mine.py', factor=1e60)]
    assert '--tries 0.5 1e+60' in table['commands'][0]
    out, said = capfd.readouterr()
    assert '| **mine, weights × 0.5, chosen** |' in out
    assert 'mine_x1e+60.py, seed 0: train.py failed with status 1, for what stands above; the others go on' in said
    assert 'mine_x1e+60.py, seed 0: failed, and is left out; mend it and call the same command again' in said
    assert 'cut off' not in said
    assert Path('runs/val/mine_x0.5/seed_0/result.json').exists()
    assert not Path('runs/mine_x0.5').exists()  # nothing of the test split


@pytest.mark.parametrize('also', [['--split', 'test'], ['--same-time'], ['--then', 'qat.py']])
def test_weights_are_chosen_on_validation_images_alone(also, capsys):
    with pytest.raises(SystemExit):
        main(['--plain', 'plain.py', '--configs', 'mine.py', '--work-dir', 'runs', '--tries', '1', *also])
    assert '--tries: weights of --configs are chosen on val' in capsys.readouterr().err


@pytest.mark.parametrize('factor', ['0', '-1', 'inf', 'nan', 'much'])
def test_factors_are_above_0(factor, capsys):
    with pytest.raises(SystemExit):
        main(['--plain', 'plain.py', '--configs', 'mine.py', '--work-dir', 'runs', f'--tries={factor}'])
    assert f"must be a number above 0, got '{factor}'" in capsys.readouterr().err
