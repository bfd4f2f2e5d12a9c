"""Students of few bits, in runs and without one."""

from __future__ import annotations

import json
from types import SimpleNamespace

import torch
from mmengine.optim import build_optim_wrapper

from kddense import QuantiseHook

from . import detectors, tiny, transformers
from .depth_estimators import depth_data, depth_estimator

SGD = dict(type='SGD', lr=0.02, momentum=0.9)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def metric_in(folder):
    file = max(folder.rglob('*.json'), key=lambda one: one.stat().st_mtime_ns)
    return json.loads(file.read_text().splitlines()[-1])['mIoU']


def run_of(model, wrapper=None, **options):
    wrapper = wrapper or build_optim_wrapper(model, dict(type='OptimWrapper', optimizer=dict(SGD)))
    cfg = SimpleNamespace(get=lambda key, default=None: options.get(key, default), text='')
    return SimpleNamespace(model=model, optim_wrapper=wrapper, iter=0, _resume=False, cfg=cfg)


def begun(model, weights, wrapper=None, **options):
    hook = QuantiseHook(weights, **options)
    run = run_of(model, wrapper)
    hook.before_train(run)
    hook.before_train_iter(run, 0)
    return hook, run


FAMILIES = {
    'two-stage': ('mmdet', tiny.faster_rcnn, tiny.detection_data),
    'masks': ('mmdet', tiny.mask_rcnn, lambda: tiny.detection_data(masks=True)),
    'one-stage': ('mmdet', lambda: detectors.one_stage('fcos'), tiny.detection_data),
    'queries': ('mmdet', lambda: transformers.detr('deformable', 8, {'test_cfg.max_per_img': 5}), tiny.detection_data),
    'recomputed': (
        'mmseg',
        lambda: tiny.segmentor('pspnet_r50-d8', {'backbone.with_cp': True}),
        tiny.segmentation_data,
    ),
    'depth': ('mmseg', depth_estimator, depth_data),
}


def plugin_free():
    model = tiny.build(tiny.segmentor('pspnet_r50-d8', {'backbone.norm_eval': True}), scope='mmseg')
    tiny.shake(model)
    return model.train()


def calm():
    """Return a student whose loss of a batch is the mean of its images' losses."""
    norm = dict(type='GN', num_groups=2, requires_grad=True)
    heads = {
        f'{head}.{key}': value
        for head in ('decode_head', 'auxiliary_head')
        for key, value in (('norm_cfg', norm), ('dropout_ratio', 0.0))
    }
    model = tiny.build(tiny.segmentor('pspnet_r50-d8', {'backbone.norm_cfg': norm, **heads}), scope='mmseg')
    tiny.shake(model)
    return model.train()


def of_family(family):
    """Return a model, and what makes its batches; mmdet leaves what tells levels apart as the memory was."""
    scope, config, make = FAMILIES[family]
    model = tiny.build(config(), scope=scope)
    if hasattr(model, 'level_embed'):
        torch.nn.init.normal_(model.level_embed, generator=torch.Generator().manual_seed(0))
    tiny.shake(model)
    return model, make
