"""Recipes of feature maps: each serves a segmentor, a one-stage, a two-stage detector and a depth estimator as it is."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from ..helpers import detectors, plugins, tiny
from ..helpers.depth_estimators import depth_data, depth_estimator

FAMILIES = {
    'segmentor': ('mmseg', lambda **sizes: tiny.segmentor('pspnet_r50-d8', **sizes), tiny.segmentation_data),
    'one-stage': ('mmdet', lambda **sizes: detectors.one_stage('fcos', **sizes), tiny.detection_data),
    'two-stage': ('mmdet', tiny.faster_rcnn, tiny.detection_data),
    'depth': ('mmseg', depth_estimator, depth_data),
}
RECIPES = {
    'reviewkd': {},
    'ifvd': {},
    'cirkd': {},
    'crd': dict(size=20),
    'fbkd': {},
    'cankd': {},
    'qat': {},
    'cosine': {},
    'at': {},
    'nst': {},
    'fsp': {},
    'ab': {},
    'ofd': {},
    'foundation': {},
    'foundation_levels': {},
}


def named(data):
    for number, sample in enumerate(data['data_samples']):
        sample.set_metainfo(dict(img_path=f'{number}.png'))
    return data


def objectives_of(recipe):
    objectives = Config.fromfile(f'configs/_base_/recipes/{recipe}.py').objectives.to_dict()
    for objective in objectives.values():
        objective.update(RECIPES[recipe])
    return objectives


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('recipe', RECIPES)
def test_a_recipe_serves_every_family(recipe, family):
    """With channels that differ; the loss is finite, reaches the student, and all layers between learn."""
    scope, student, data = FAMILIES[family]
    wide = dict(width=12) if family in ('segmentor', 'depth') else dict(width=12, fpn=24)
    model = tiny.distiller(student(), student(**wide), objectives_of(recipe), scope)
    batch = named(data())
    plugins.train(model, batch, steps=2, lr=1e-5)  # weights made for trained models: large steps diverge
    plugins.at_iteration(0)  # of a recipe with stages, the first
    assert any(name.startswith('backbone') for name in plugins.gradients(model, batch))
    losses = tiny.step(model, batch)
    tiny.total(losses).backward()
    (objective,) = model.objectives.values()
    idle = [name for name, one in objective.named_parameters() if one.grad is None]
    assert idle == [], 'every process of a distributed training must see all of them'
