"""The table of recipes: what is chosen and refused; and that the page and the records say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kddense.apps.distill.choice import (
    DEPTH,
    DETR,
    FAMILIES,
    GFL,
    MASK_QUERIES,
    ONE_STAGE,
    SEGMENTOR,
    TWO_STAGE,
)
from kddense.apps.distill.choices import CHOICES, choose, fitting
from kddense.configs import recipe_names
from kddense.report.metrics import LOWER_IS_BETTER

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / 'docs' / 'which-method.md').read_text()
MEASURED = [
    (choice, one) for choice in CHOICES for one in (*choice.measured, *choice.of_strangers, *choice.with_unlabelled)
]


@pytest.mark.parametrize(
    'choice, measured', MEASURED, ids=lambda one: getattr(one, 'config', getattr(one, 'recipe', ''))
)
def test_the_gains_are_those_of_the_records(choice, measured):
    table = json.loads((ROOT / 'configs' / measured.record).read_text())
    name = f'/{measured.config.split("/")[-1]}'
    row = next(row for row in table['rows'] if row['config'].endswith(name))  # before that of the file in whole numbers
    digits = 4 if row['metric'] in LOWER_IS_BETTER else 2
    low, high = row['paired_ci95']
    metric = {'coco/bbox_mAP': 'mAP', 'coco/segm_mAP': 'mask mAP', 'abs_rel': 'abs rel'}.get(
        row['metric'], row['metric']
    )

    assert measured.verdict == row['verdict']
    assert measured.gain == f'{row["paired_mean"]:+.{digits}f} [{low:.{digits}f}, {high:.{digits}f}] {metric}'


@pytest.mark.parametrize(
    'choice, measured', MEASURED, ids=lambda one: getattr(one, 'config', getattr(one, 'recipe', ''))
)
def test_what_was_measured_was_made_by_the_recipe(choice, measured):
    assert f'/recipes/{choice.recipe}.py' in ''.join(_lineage(ROOT / measured.row['config']))


def _lineage(config):
    """Return the texts of a config and of those in its folder that it inherits from."""
    text = config.read_text()
    inherited = re.findall(r"'\./(.*?\.py)'", text)
    return [text, *(one for name in inherited for one in _lineage(config.parent / name))]


@pytest.mark.parametrize('choice', CHOICES, ids=lambda one: one.recipe)
def test_the_page_says_what_the_table_says(choice):
    lines = [line for line in PAGE.splitlines() if line.startswith('|') and f'`{choice.recipe}`' in line]
    assert lines, choice.recipe
    for measured in (*choice.measured, *choice.of_strangers, *choice.with_unlabelled):
        assert any(measured.gain in line and measured.verdict in line for line in lines), measured


def test_the_page_has_no_gain_that_no_record_has():
    """Besides those of the table it may tell of other set-ups, and of the plain student that had as much time."""
    tables = [json.loads(file.read_text()) for file in (ROOT / 'configs').glob('*/measured_*.json')]
    rows = [
        (one, 'mAP' if 'mAP' in table['metric'] else 'mIoU')
        for table in tables
        for row in table['rows']
        for one in (row, row['same_time'])
    ]
    told = [(row, unit) for row, unit in rows if row and row['paired_ci95']]  # of one seed there is no interval
    known = {measured.gain for _, measured in MEASURED}
    known |= {
        f'{row["paired_mean"]:+.2f} [{row["paired_ci95"][0]:.2f}, {row["paired_ci95"][1]:.2f}] {unit}'
        for row, unit in told
    }
    found = set(re.findall(r'[+-]\d+\.\d+ \[[^]]*\] (?:mAP|mIoU|abs rel)', PAGE))
    assert len(found) > len(MEASURED) / 2
    assert found <= known


def test_every_line_has_its_recipe():
    assert {choice.recipe for choice in CHOICES} <= set(recipe_names())


@pytest.mark.parametrize('family', FAMILIES)
def test_what_is_chosen_harmed_nowhere_and_nothing_that_fits_gained_more(family):
    """Gains of students with fewer labels are over another plain student, and are not compared."""
    chosen = choose(None, family, family)
    gains = [
        (choice.recipe, float(one.gain.split()[0]))
        for choice in CHOICES
        if choice.fits(family, family)
        for one in choice.measured
        if 'of the labels' not in one.student
    ]
    means = {recipe: max(gain for other, gain in gains if other == recipe) for recipe, _ in gains}
    assert means.get(chosen.recipe) == max(means.values(), default=None)
    assert 'harms' not in {one.verdict for one in chosen.measured}


@pytest.mark.parametrize('family', FAMILIES)
def test_what_harms_by_strangers_is_not_chosen_for_them(family):
    assert not choose(None, family, family, strangers=True).harms_by_strangers
    assert {one.recipe for one in fitting(family, family, True)} == {one.recipe for one in fitting(family, family)}


def test_a_stranger_teaches_a_two_stage_detector_by_its_classes():
    assert choose(None, TWO_STAGE, TWO_STAGE).recipe == 'chen2017'
    assert choose(None, TWO_STAGE, TWO_STAGE, strangers=True).recipe == 'dist'


@pytest.mark.parametrize('family', FAMILIES)
def test_with_images_without_labels_what_gained_most_with_them_is_chosen(family):
    chosen = choose(None, family, family, unlabelled=True)
    helpful = {one.recipe: one.gain_with_unlabelled for one in fitting(family, family) if one.gain_with_unlabelled}
    if not helpful:
        assert chosen == choose(None, family, family)
        return
    assert chosen.gain_with_unlabelled == max(helpful.values())
    assert chosen.why(unlabelled=True).startswith('with images without labels, ')
    assert 'without labels' not in chosen.why()


def test_where_nothing_is_recorded_no_gain_is_told():
    for family in (DETR, MASK_QUERIES):
        chosen = choose(None, family, family)
        assert chosen.measured or chosen.why().startswith('never measured here')


@pytest.mark.parametrize('choice', CHOICES, ids=lambda choice: choice.recipe)
def test_what_is_measured_is_not_told_as_never_measured(choice):
    """Also where the teacher was of another kind of backbone alone, as FGFI's."""
    for beside in (False, True):
        assert choice.is_measured(beside) == (not choice.why(beside).startswith('never measured here'))


def test_what_two_models_cannot_follow_is_not_chosen_and_may_be_named():
    assert choose(None, DETR, DETR).recipe == 'detrdistill'
    assert choose(None, DETR, DETR, lacking=['detrdistill']).recipe == 'kd_detr'
    assert choose('kd_detr', DETR, DETR, lacking=['kd_detr']).recipe == 'kd_detr'
    assert 'kd_detr' not in {one.recipe for one in fitting(DETR, DETR, lacking=['kd_detr'])}


@pytest.mark.parametrize(
    'recipe, student, teacher, expected',
    [
        (
            'ld',
            TWO_STAGE,
            TWO_STAGE,
            'the recipe ld does not fit a two-stage detector .* these do: chen2017, dist, fgfi, pkd,',
        ),
        ('ld', GFL, ONE_STAGE, 'the recipe ld does not fit a GFL detector with a one-stage detector for a teacher'),
        ('chen2017', TWO_STAGE, ONE_STAGE, 'does not fit a two-stage detector with a one-stage detector'),
        ('skd', DEPTH, DEPTH, 'does not fit a depth estimator .* these do: ail_depth, skd_depth, .*fitnets'),
        (
            None,
            SEGMENTOR,
            TWO_STAGE,
            'no recipe is known for a segmentor with a two-stage detector .* --recipe fitnets',
        ),
        (None, None, None, 'no recipe is known for a model of a family that kddense does not know'),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(recipe, student, teacher, expected):
    with pytest.raises(ValueError, match=expected):
        choose(recipe, student, teacher)


@pytest.mark.parametrize(
    'recipe, student, teacher',
    [('fitnets', SEGMENTOR, TWO_STAGE), ('pkd_one_stage', GFL, ONE_STAGE), ('ld', GFL, GFL), ('mine.py', None, None)],
)
def test_what_fits_is_taken(recipe, student, teacher):
    assert choose(recipe, student, teacher).recipe == recipe
