"""Recipes of feature maps: each serves a segmentor, a one-stage, a two-stage detector, a DETR and a depth estimator."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config

from ..helpers import detectors, plugins, tiny, transformers
from ..helpers.depth_estimators import depth_data, depth_estimator

FAMILIES = {
    'segmentor': ('mmseg', lambda **sizes: tiny.segmentor('pspnet_r50-d8', **sizes), tiny.segmentation_data),
    'one-stage': ('mmdet', lambda **sizes: detectors.one_stage('fcos', **sizes), tiny.detection_data),
    'two-stage': ('mmdet', tiny.faster_rcnn, tiny.detection_data),
    'DETR': ('mmdet', lambda **sizes: transformers.detr('deformable', **sizes), tiny.detection_data),
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
    wide = dict(width=12, fpn=24) if family in ('one-stage', 'two-stage') else dict(width=12)
    objectives = objectives_of(recipe)
    if family == 'DETR' and recipe in ('fbkd', 'cankd'):
        objectives[recipe]['levels'] = [0, 1, 2]  # mmdet's have four levels in the neck, these three
    model = tiny.distiller(student(), student(**wide), objectives, scope)
    transformers.draw_levels(model.student, *(each.model for each in model.teachers.values()))
    batch = named(data())
    plugins.train(model, batch, steps=2, lr=1e-5)  # weights made for trained models: large steps diverge
    plugins.at_iteration(0)  # of a recipe with stages, the first
    assert any(name.startswith('backbone') for name in plugins.gradients(model, batch))
    losses = tiny.step(model, batch)
    tiny.total(losses).backward()
    (objective,) = model.objectives.values()
    idle = [name for name, one in objective.named_parameters() if one.grad is None]
    assert idle == [], 'every process of a distributed training must see all of them'


ENCODER_LEVELS = {0: 8, -1: 2}  # of three: which is compared, how many cells a side it has


@pytest.mark.parametrize('level', ENCODER_LEVELS)
def test_levels_of_an_encoder_are_compared_one_by_one(level):
    """The tokens of all levels stand in one row: only those of the chosen level make the map that the loss is given."""
    (objective,) = objectives_of('cosine').values()
    place = dict(tap='encoder', levels=[level], teacher_tap='backbone', teacher_levels=[-1], resize='teacher')
    model = transformers.distiller(
        transformers.detr('deformable'), transformers.detr('deformable', 12), dict(x={**objective, **place})
    )
    tokens, maps = [], []
    model.student.encoder.register_forward_hook(lambda module, args, value: tokens.append(value))
    model.objectives['x'].connectors[0].register_forward_pre_hook(lambda module, args: maps.append(args[0]))
    assert 'encoder.layers.0.ffn.layers.0.0.weight' in plugins.gradients(model, tiny.detection_data())
    side = ENCODER_LEVELS[level]
    chosen = slice(0, 64) if level == 0 else slice(-4, None)
    assert tokens[0].shape[1] == 64 + 16 + 4
    assert torch.equal(maps[0], tokens[0][:, chosen].transpose(1, 2).unflatten(2, (side, side)))
