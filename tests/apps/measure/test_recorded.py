"""What the repository publishes is what its recorded runs give: every table, every mean, every interval."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from kddense.apps.measure import main
from kddense.apps.measure.markdown import digits, gain, scores_of, spread
from kddense.apps.measure.recorded import read_table
from kddense.apps.measure.statistics import TOO_FEW, paired_interval, sign_of, verdict
from kddense.apps.program.links import read_programme

ROOT = Path(__file__).parents[3]
FILES = sorted([*ROOT.glob('configs/*/measured_*.json'), *ROOT.glob('configs/*/tries_*.json')])
PAGES = sorted([ROOT / 'README.md', *ROOT.glob('docs/**/*.md'), *ROOT.glob('configs/*/README.md')])
NUMBER = r'-?\d+\.\d+'
WITH_SPREAD = re.compile(rf'{NUMBER} ± {NUMBER}')
WITH_INTERVAL = re.compile(rf'[+-]\d+\.\d+ \[{NUMBER}, {NUMBER}\]')


def table_rows(table):
    return [table['plain'], *table['rows'], *filter(None, [table['plain_same_time']])]


@pytest.mark.parametrize('file', FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_differences_intervals_and_verdicts_follow_from_the_scores(file):
    table = read_table(file)
    assert table['rows']
    assert table['commands']
    assert table['machine']
    assert ' /' not in file.read_text(), 'a path of a machine'
    for row in table['rows']:
        for base, compared in ((table['plain'], row), (table['plain_same_time'], row['same_time'])):
            if compared is None:
                continue
            seeds = [seed for seed in row['scores'] if seed in base['scores']]
            sign = sign_of(row['metric'])
            mean, interval = paired_interval([sign * (row['scores'][seed] - base['scores'][seed]) for seed in seeds])
            assert compared['paired_mean'] == pytest.approx(mean, abs=1e-4)
            assert compared['paired_ci95'] == pytest.approx(interval, abs=1e-4)
            assert compared['verdict'] == verdict(interval)


@pytest.mark.parametrize('file', FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_command_has_another_length_than_its_row(file):
    for row in table_rows(read_table(file)):
        for command in row['commands']:
            lengths = re.findall(r'train_cfg\.max_(?:iters|epochs)=(\d+)', command)
            assert all(int(length) == row['steps'] for length in lengths), command


def links_of(table) -> set[str]:
    """Return the links of the programme that made the table, whose names stand in place of configs."""
    made_by = re.match(r'kddense program (\S+)', table['commands'][0])
    return {link.row for link in read_programme(str(ROOT / made_by[1])).links.values()} if made_by else set()


@pytest.mark.parametrize('file', FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_its_configs_are_there(file):
    table = read_table(file)
    links = links_of(table)

    for row in filter(None, [*table_rows(table), table['teacher']]):
        assert row['config'] in links or (ROOT / row['config']).is_file(), row['config']


@pytest.mark.parametrize('file', FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_the_readme_shows_the_table(file, capsys):
    assert main(['--show', str(file)]) == 0

    shown = capsys.readouterr().out.split('\n\n')[1].strip()
    assert shown in (file.parent / 'README.md').read_text()


def test_what_was_chosen_is_the_best_of_as_many_tries():
    """Each config was tried with all factors, on validation images."""
    for file in FILES:
        table = read_table(file)
        if not file.name.startswith('tries_'):
            assert 'tries' not in table
            continue
        tries = table['tries']
        assert 'val' in ''.join(table['setting']['test']['data'])
        for config in {row['config'] for row in table['rows']}:
            means = {
                row['factor']: sign_of(row['metric']) * sum(row['scores'].values())
                for row in table['rows']
                if row['config'] == config
            }
            assert len(means) + sum(one['config'] == config for one in tries['failed']) == len(tries['factors'])
            assert means[tries['chosen'][config]] == max(means.values())


def published(table) -> set[str]:
    """Return what a page may say of a table."""
    said = set()
    for row in table_rows(table):
        for name in (table['metric'], *row['other_scores']):
            values = scores_of(row, name)
            said |= {spread(values, places) for places in (digits(name), 3, 1)}
    for row in table['rows']:
        compared = [row, *filter(None, [row['same_time']])]
        said |= {gain(one, table['metric']) for one in compared}
        said |= {
            f'{one["paired_mean"]:+.2f} [{low:.2f}, {high:.2f}]'
            for one in compared
            if (ci := one.get('images_ci95'))
            for low, high in [ci]
        }
    return said


KNOWN = set(itertools.chain.from_iterable(published(read_table(file)) for file in FILES))


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_published_number_is_recorded(page):
    text = page.read_text()

    for number in (*WITH_SPREAD.findall(text), *WITH_INTERVAL.findall(text)):
        assert number in KNOWN, number


def page_of(config: str) -> str:
    """Return the name of the page of the method that a config is of; none of ablations, and of tables of their own."""
    _, folder, *rest = config.split('/')
    if folder == 'skd':
        return 'skd-depth' if 'depth' in rest[-1] else 'skd-detection' if 'fcos' in rest[-1] else 'skd-segmentation'
    return '' if rest[0] == 'ablations' or folder in ('apprentice', 'quantized_distillation', 'qat') else folder


@pytest.mark.parametrize('file', FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_the_page_of_a_method_tells_gain_verdict_set_up_and_command(file):
    table = read_table(file)
    if links_of(table) or file.parent.name == 'qat':
        return
    for row in table['rows']:
        page = page_of(row['config'])
        if not page or row['verdict'] == TOO_FEW or 'factor' in row:
            continue
        text = (ROOT / 'docs/methods' / f'{page}.md').read_text()
        said = [line for line in text.splitlines() if gain(row, table['metric']) in line]
        assert any(row['verdict'] in line for line in said), f'{page}.md does not tell {row["config"]}'
        assert re.search(r'^Set-ups?:', text, flags=re.MULTILINE)
        assert row['config'] in text.partition('```bash\nkddense measure')[2]


@pytest.mark.parametrize('file', FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_table_with_a_row_of_the_same_time_comes_from_a_command_that_asks_for_it(file):
    table = read_table(file)
    if table['plain_same_time'] and 'kddense measure' in table['commands'][0]:
        assert '--same-time' in table['commands'][0]
        assert '--same-time' in (file.parent / 'README.md').read_text()


MEASURED = {row['config'].split('/')[1] for file in FILES for row in read_table(file)['rows'] if '/' in row['config']}
FOLDERS = sorted(set(ROOT.glob('configs/[a-z]*')) - {ROOT / 'configs/demo'})


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda folder: folder.name)
def test_what_was_never_measured_says_so_in_its_first_lines(folder):
    first = '\n'.join((folder / 'README.md').read_text().splitlines()[:14])

    if folder.name not in MEASURED and not [*folder.glob('measured_*.json'), *folder.glob('searched_*.json')]:
        assert re.search('never measured here|not yet measured here', first, flags=re.IGNORECASE)
    else:
        assert not re.search('\\*\\*(never|not yet) measured here', first, flags=re.IGNORECASE)
