"""Recipes of detectors: in mixed precision, and of images without a single instance."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config

from ..helpers import tiny
from .test_classic_contracts import DETECTOR, MASKS, ONE_STAGE, PANOPTIC, QUERIES, RECIPES

NAMES = [name for name, (_, family, _) in RECIPES.items() if family in (DETECTOR, ONE_STAGE, MASKS, QUERIES, PANOPTIC)]
QUERIES_OF_MASKS = [name for name in RECIPES if name.startswith('mask_queries')]
NOTHING = ((), ())


def build(name):
    """Return a distiller and the function that makes its data."""
    recipe, (scope, student, data), options = RECIPES[name]
    wide = dict(width=12) if scope == 'mmseg' else dict(width=12, fpn=24)
    objectives = Config.fromfile(f'configs/_base_/recipes/{recipe}.py').objectives.to_dict()
    for objective in objectives.values():
        objective.update(options)
    for number, sample in enumerate(data['data_samples']):
        sample.set_metainfo(dict(img_path=f'{number}.png'))
    return tiny.distiller(student(), student(**wide), objectives, scope), data


def own_losses(losses):
    return {name: value for name, value in losses.items() if name.startswith('distill.')}


@pytest.mark.parametrize('name', [*NAMES, *QUERIES_OF_MASKS])
def test_losses_are_computed_in_float32_under_autocast(name):
    model, data = build(name)
    with torch.autocast('cpu', torch.bfloat16):
        losses = tiny.step(model, data)
    assert own_losses(losses)
    for key, value in own_losses(losses).items():
        assert value.dtype == torch.float32, key
        assert value.isfinite(), key
    sum(own_losses(losses).values()).backward()


@pytest.mark.parametrize('name', [name for name in NAMES if RECIPES[name][1] is not PANOPTIC])
def test_images_without_instances_are_served(name):
    """What is about instances is a zero then; all of it back-propagates."""
    model, data = build(name)
    empty = tiny.detection_data(boxes=NOTHING, masks='masks' in data['data_samples'][0].gt_instances)
    for number, sample in enumerate(empty['data_samples']):
        sample.set_metainfo(dict(img_path=f'{number}.png'))
    losses = tiny.step(model, empty)
    assert own_losses(losses)
    assert all(value.isfinite() for value in own_losses(losses).values())
    tiny.total(losses).backward()
    assert all(one.grad.isfinite().all() for one in model.student.parameters() if one.grad is not None)
