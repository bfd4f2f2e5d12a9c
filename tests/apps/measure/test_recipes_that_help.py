"""How many of the recipes that were measured help somewhere: counted from the records, and told on the page of results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kddense.apps.distill.choice import FAMILIES
from kddense.apps.distill.choices import choose
from kddense.apps.measure.recorded import read_table
from kddense.apps.measure.statistics import HARMS, HELPS, TOO_FEW
from kddense.configs import recipe_names

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / 'docs' / 'results.md').read_text().partition('## Which recipes help somewhere')[2]


def recipes_in(config: Path) -> set[str]:
    """Return the recipes that a config inherits, or that one inherits which it inherits."""
    if not config.is_file():
        return set()
    text = config.read_text()
    beneath = re.match(r'.*?_base_ = (\[.*?\]|\'.*?\')', text, flags=re.DOTALL)
    found = set(re.findall(r'/recipes/(\w+)\.py', text))
    for base in re.findall(r"'(\.{1,2}/.*?)'", beneath[1]) if beneath else []:
        found |= recipes_in((config.parent / base).resolve())
    return found


def verdicts() -> dict[str, set[str]]:
    """Return the verdicts on each recipe at the same steps; what goes on from a distilled student has that one's gain."""
    found: dict[str, set[str]] = {}
    for file in (ROOT / 'configs').glob('*/measured_*.json'):
        for row in read_table(file)['rows']:
            if row['verdict'] == TOO_FEW or recipes_in(ROOT / row.get('begins_from', '')):
                continue
            for recipe in recipes_in(ROOT / row['config']):
                found.setdefault(recipe, set()).add(row['verdict'])
    return found


FOUND = verdicts()


def names(recipes) -> str:
    return ', '.join(f'`{one}`' for one in sorted(recipes))


HELPFUL = {one for one, said in FOUND.items() if HELPS in said}
HARMFUL = {one for one, said in FOUND.items() if said == {HARMS}}


def test_the_page_tells_the_share_that_helps():
    share = round(100 * len(HELPFUL) / len(FOUND))

    assert f'{len(HELPFUL)} of {len(FOUND)} recipes, {share} %' in PAGE


@pytest.mark.parametrize(
    'kind',
    [HELPFUL, HARMFUL, set(FOUND) - HELPFUL - HARMFUL, set(recipe_names()) - set(FOUND)],
    ids=['help somewhere', 'harm everywhere', 'neither', 'never measured'],
)
def test_the_page_names_them_all(kind):
    assert f'| {len(kind)} | {names(kind)} |' in PAGE


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('strangers', [False, True])
def test_what_harms_everywhere_is_no_first_choice(family, strangers):
    assert choose(None, family, family, strangers).recipe not in HARMFUL
