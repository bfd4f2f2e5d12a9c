"""Recipes that their papers put side by side: each has its own terms, and all of them reach the student."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from ..helpers import detectors, plugins, tiny

PAIRS = {
    'CrossKD and PKD': ('gfl', ['crosskd_gfl', 'pkd_one_stage'], {'cross.loss_cls', 'cross.loss_box', 'pkd.loss'}),
    'CrossKD of FCOS and PKD': (
        'fcos',
        ['crosskd_fcos', 'pkd_one_stage'],
        {'cross.loss_cls', 'cross.loss_box', 'pkd.loss'},
    ),
    'FGD and logits': (
        'retinanet',
        ['fgd_one_stage', 'hinton_dense'],
        {*(f'fgd.loss_{term}' for term in ('foreground', 'background', 'attention', 'relation')), 'soft.loss'},
    ),
}
DATA = tiny.detection_data()


def terms(losses):
    return {name.removeprefix('distill.'): float(value) for name, value in losses.items() if 'distill.' in name}


@pytest.mark.parametrize('pair', PAIRS)
def test_recipes_side_by_side(pair):
    """Together they are the sum of what each is alone."""
    head, recipes, names = PAIRS[pair]
    student = detectors.one_stage(head, {'bbox_head.stacked_convs': 2})
    teacher = detectors.one_stage(head, {'bbox_head.stacked_convs': 2}, width=12)
    both = tiny.distiller(student, teacher, recipes)
    assert plugins.gradients(both, DATA)
    found = terms(tiny.step(both, DATA))
    assert found.keys() == names
    alone: dict[str, float] = {}
    for recipe in recipes:
        objectives = Config.fromfile(f'configs/_base_/recipes/{recipe}.py').objectives.to_dict()
        alone |= terms(tiny.step(tiny.distiller(student, teacher, objectives), DATA))
    assert found == pytest.approx(alone, rel=1e-5)
    plugins.train(both, DATA, lr=1e-5)
    plugins.assert_contracts(both, student)
