"""What is seen of two models: whether their backbones are of one kind."""

from __future__ import annotations

import pytest
from mmdet.models import MobileNetV2, ResNet, ResNeXt
from mmengine.config import Config
from torch import nn

from kddense.apps.distill.models import Looked, are_strangers


def looked(backbone):
    model = nn.Module()
    model.backbone = backbone
    return Looked(Config(), model, None)


@pytest.mark.parametrize(
    'teacher, expected',
    [(ResNet(50), False), (ResNeXt(depth=50, groups=2, base_width=4), False), (MobileNetV2(), True)],
)
def test_kinds_of_backbones(teacher, expected):
    student = looked(ResNet(18))

    assert are_strangers(student, looked(teacher)) is expected
    assert are_strangers(looked(teacher), student) is expected
