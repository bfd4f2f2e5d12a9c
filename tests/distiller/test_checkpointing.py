"""Gradient checkpointing in student and teacher: the losses and gradients of a step without it."""

from __future__ import annotations

import copy
import functools
import weakref

import pytest
import torch
from mmdet.models.layers.transformer import deformable_detr_layers, detr_layers
from torch.utils.checkpoint import checkpoint

from kddense.taps import Taps

from ..helpers import plugins, stock_models, tiny

STOCK = {
    'ResNet': 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'SwinTransformer': 'mmdet::swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py',
    'MixVisionTransformer': 'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
    'VisionTransformer': 'mmseg::segmenter/segmenter_vit-s_fcn_8xb1-160k_ade20k-512x512.py',
    'HRNet': 'mmseg::hrnet/fcn_hr18s_4xb4-80k_ade20k-512x512.py',
}
# A place inside a block that would be checkpointed, and what heads say behind all of them.
INSIDE = {
    'ResNet': 'backbone.layer3.0.conv2',
    'SwinTransformer': 'backbone.stages.2.blocks.0.ffn',
    'MixVisionTransformer': 'backbone.layers.2.1.0.ffn',
    'VisionTransformer': 'backbone.layers.5.ffn',
    'HRNet': 'backbone.stage3.0.branches.1.0.conv2',
}
SAYS = {
    'mmdet::faster': dict(type='kddense.ChenRoIObjective'),
    'mmdet::swin': dict(type='kddense.DenseHintonObjective'),
    'mmseg::': dict(type='kddense.PixelWiseObjective'),
}


def same_steps(build, data):
    """Assert that a step is the same with checkpointing as without; returns the model that checkpoints."""
    found = []
    for on in (False, True):
        model = build(on)
        plugins.make_twins(model)
        tiny.shake(model.teachers['teacher'].model)
        torch.manual_seed(0)
        losses = plugins.losses_of(model, data)
        tiny.total(losses).backward()
        gradients = {key: one.grad for key, one in model.student.named_parameters() if one.grad is not None}
        found.append((losses, gradients))
    (losses, gradients), (checkpointed, others) = found
    assert losses.keys() == checkpointed.keys()
    assert gradients.keys() == others.keys()
    for key, value in losses.items():
        torch.testing.assert_close(checkpointed[key], value, rtol=1e-6, atol=1e-7)
    for key, value in gradients.items():
        torch.testing.assert_close(others[key], value, rtol=1e-3, atol=2e-5)
    return model


@pytest.mark.parametrize('kind', STOCK)
def test_backbones(kind):
    package = STOCK[kind].partition('::')[0]
    objectives = dict(
        inside=dict(type='kddense.FeatureObjective', tap=INSIDE[kind]),
        said=next(objective for start, objective in SAYS.items() if STOCK[kind].startswith(start)),
    )

    def build(on):
        config = stock_models.small_model(STOCK[kind])
        config.backbone.update(with_cp=on)
        assert config.backbone.type == kind
        return tiny.distiller(config, config, objectives, package)

    data = tiny.detection_data() if package == 'mmdet' else tiny.segmentation_data()
    model = same_steps(build, data)
    blocks = [one for one in model.student.backbone.modules() if getattr(one, 'with_cp', False)]
    assert blocks, 'as it was'


def checkpoint_wrapper(module):
    """What fairscale's function of this name does, which mmdet's encoders call for `num_cp`."""
    module.forward = functools.partial(_checkpointed_forward, type(module).forward, weakref.ref(module))
    return module


def _checkpointed_forward(forward, module, *args, **kwargs):
    if not torch.is_grad_enabled():
        return forward(module(), *args, **kwargs)

    def run(*tensors):
        return forward(module(), *tensors[: len(args)], **dict(zip(kwargs, tensors[len(args) :], strict=True)))

    return checkpoint(run, *args, *kwargs.values(), use_reentrant=True)


@pytest.mark.parametrize(
    'path', ['mmdet::detr/detr_r50_8xb2-150e_coco.py', 'mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py']
)
def test_encoders(path, monkeypatch):
    for layers in (detr_layers, deformable_detr_layers):
        monkeypatch.setattr(layers, 'checkpoint_wrapper', checkpoint_wrapper)
    objectives = dict(hint=dict(type='kddense.FeatureObjective', tap='neck'))

    def build(on):
        config = copy.deepcopy(stock_models.small_model(path))
        config.encoder.update(num_cp=3 if on else 0)
        config.bbox_head.embed_dims = config.encoder.layer_cfg.self_attn_cfg.embed_dims
        model = tiny.distiller(config, config, objectives)
        torch.manual_seed(0)
        model.student.init_weights()  # mmdet's constructors leave some as the memory is
        return model

    data = tiny.detection_data()
    student = same_steps(build, data).student
    wrapped = [one for one in student.encoder.layers if 'forward' in vars(one)]
    assert len(wrapped) == 3
    with Taps(student, ['encoder.layers.1.ffn', 'encoder.layers.2']) as recording:
        student(**student.data_preprocessor(copy.deepcopy(data), True), mode='loss')
    assert all(recording[tap].requires_grad for tap in ('encoder.layers.1.ffn', 'encoder.layers.2'))
    assert wrapped == [one for one in student.encoder.layers if 'forward' in vars(one)], 'as it was'
