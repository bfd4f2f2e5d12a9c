"""Apprentice (Mishra & Marr 2018): a student of few bits, which its own config says."""

import torch
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import nn

from ..helpers import plugins, tiny

BITS = 3


class RoundedStraightThrough(torch.autograd.Function):
    """Rounds weights to few values; gradients pass as if it did not."""

    @staticmethod
    def forward(ctx, weight):
        scale = weight.abs().amax(dim=(1, 2, 3), keepdim=True) / (2 ** (BITS - 1) - 1) + 1e-12
        return (weight / scale).round() * scale

    @staticmethod
    def backward(ctx, gradient):
        return gradient


@MMENGINE_MODELS.register_module()
class FewBitsConv2d(nn.Conv2d):
    """A convolution whose weights are rounded."""

    def forward(self, x):
        return self._conv_forward(x, RoundedStraightThrough.apply(self.weight), self.bias)


FULL = tiny.segmentor('pspnet_r50-d8')
PARTS = ('backbone', 'decode_head', 'auxiliary_head')
STUDENT = tiny.edit(FULL, {f'{part}.conv_cfg': dict(type='FewBitsConv2d') for part in PARTS})


def build():
    soft = dict(type='kddense.FeatureObjective', tap='decode_head', loss=dict(type='kddense.HintonLoss'))
    objectives = dict(soft=soft, hint=dict(type='kddense.FeatureObjective', tap='backbone.layer3'))
    return tiny.distiller(STUDENT, tiny.segmentor('pspnet_r50-d8', width=16), objectives, 'mmseg')


def test_a_student_of_few_bits_learns_and_keeps_the_keys_of_the_full_one():
    model = build()
    assert sum(isinstance(one, FewBitsConv2d) for one in model.student.modules()) > 20
    assert not any(isinstance(one, FewBitsConv2d) for one in model.teachers['teacher'].modules())
    assert len(RoundedStraightThrough.apply(model.student.backbone.layer1[0].conv1.weight)[0].unique()) <= 2**BITS - 1
    found = plugins.gradients(model, tiny.segmentation_data())
    assert 'backbone.layer1.0.conv1.weight' in found
    plugins.train(model, tiny.segmentation_data())
    plugins.assert_contracts(model, STUDENT, 'mmseg', rebuild=build)
    tiny.build(FULL, scope='mmseg').load_state_dict(model.state_dict(), strict=True)
