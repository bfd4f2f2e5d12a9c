"""What was distilled, in words: student, teacher, data, method, training."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from kddense.configs import is_distiller
from kddense.registry import MODELS, name_of
from kddense.training.settings import setting_of, steps_of

from .contents import Entrant, Report
from .fairness import seed_of


def story_of(report: Report) -> dict[str, list[str]]:
    """Return what the page says first: sentences under a heading each, of the first distilled student."""
    taught = next((entrant for entrant in report.entrants if entrant.role == 'distilled'), None)
    if taught is None or taught.run.config is None:
        return {}
    config = taught.run.config
    teacher = next((entrant for entrant in report.entrants if entrant.role == 'teacher'), None)
    told = {
        'Student': [_model(taught)],
        'Teacher': [_model(teacher)] if teacher is not None and teacher.config is not None else [],
        'Method': list(_objectives(config)),
        'Data': list(_data(config, taught)),
        'Training': [_training(taught)],
    }
    return {heading: sentences for heading, sentences in told.items() if sentences}


def _model(entrant: Entrant) -> str:
    assert entrant.config is not None
    model = entrant.config.model
    backbone = model.get('backbone')
    head = model.get('decode_head')  # a list of a cascade's
    named = [model['type'], *([head['type']] if isinstance(head, Mapping) else [])]
    parts = [' with '.join(map(name_of, named))]
    if backbone:
        size = backbone.get('depth') or backbone.get('arch') or ''
        parts.append(f'on {name_of(backbone["type"])}{f" {size}" if size else ""}')
    if entrant.costs is not None:
        parts.append(f'({entrant.costs.parameters / 1e6:.2f} M parameters)')
    parts.append(f'trained from {_start(entrant)}')
    return ' '.join(parts)


def _start(entrant: Entrant) -> str:
    """Return the weights that a training started from, as its config has it."""
    assert entrant.config is not None
    config = entrant.config
    if config.get('load_from') and entrant.run.config_file is not None:
        return str(config.load_from)
    named = list(dict.fromkeys(_weights(config.model)))
    own = getattr(getattr(entrant.model, 'backbone', None), 'weights', None)
    if isinstance(own, str) and own not in named:
        named.append('ImageNet weights' if own == 'imagenet' else own)
    return ', '.join(named) or 'random weights'


def _weights(node: Any) -> Iterator[str]:
    """Yield the weights that a model's config names."""
    if isinstance(node, Mapping):
        if name_of(node.get('type', '')) == 'Pretrained' and node.get('checkpoint'):
            yield str(node['checkpoint'])
        if isinstance(node.get('pretrained'), str):
            yield node['pretrained']
        for child in node.values():
            yield from _weights(child)
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from _weights(child)


def _objectives(config: Config) -> Iterator[str]:
    """Yield what each objective compares, by the first sentence of its documentation, and its weight."""
    model = config.model
    if not is_distiller(model):
        return
    for name, objective in (model.get('objectives') or {}).items():
        kind = MODELS.get(objective['type'])
        documented = (inspect.getdoc(kind) or '').partition('\n')[0].partition('; see')[0].rstrip('.')
        weight = objective.get('weight', _default_weight(kind))
        loss = objective.get('loss')
        with_loss = f', by {name_of(loss["type"])}' if isinstance(loss, Mapping) and 'type' in loss else ''
        yield f'{name}: {documented or name_of(objective["type"])}{with_loss}{_weight(weight)}'


def _default_weight(kind: Any) -> Any:
    """Return the default of an objective's argument ``weight``, which may be its parent's."""
    for one in inspect.getmro(kind):
        parameter = inspect.signature(one).parameters.get('weight')
        if parameter is not None:
            return None if parameter.default is inspect.Parameter.empty else parameter.default
    return None


def _weight(weight: Any) -> str:
    if weight is None:
        return ''
    if isinstance(weight, Mapping):
        return f'; weight by schedule, {", ".join(f"{key} {value}" for key, value in weight.items())}'
    return f'; weight {weight:g}' if isinstance(weight, (int, float)) else f'; weight {weight}'


def _data(config: Config, entrant: Entrant) -> Iterator[str]:
    setting = setting_of(config)
    yield f'trained on {", ".join(setting["train"]["data"]) or "data that the config does not name"}'
    if entrant.evaluation is not None and entrant.evaluation.images:
        yield f'measured on {entrant.evaluation.images} images, one training of each model'


def _training(entrant: Entrant) -> str:
    config = entrant.run.config
    assert config is not None
    parts = []
    if config.get('train_cfg'):
        steps, unit = steps_of(config)
        parts.append(f'{steps} {unit}')
    batch = setting_of(config)['train'].get('batch_size')
    if batch:
        parts.append(f'batches of {batch}')
    optimiser = (config.get('optim_wrapper') or {}).get('optimizer') or {}
    if 'lr' in optimiser:
        parts.append(f'{optimiser.get("type", "")} with learning rate {optimiser["lr"]:g}')
    parts.append(f'seed {seed_of(entrant)}')
    return ', '.join(parts)
