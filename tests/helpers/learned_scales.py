"""A student that learned its scales, written in 8 bits."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from mmengine.model import ImgDataPreprocessor
from torch import nn

from kddense.export.int8 import Int8Report
from kddense.export.onnx import OnnxOptions, write_onnx
from kddense.export.qdq import write_learned
from kddense.quantisation import LayerScales, MinMaxQuantiser, UniformQuantiser, scales_of
from kddense.quantisation.scales import KEY
from kddense.quantisation.student import QuantisedStudent

from . import tiny

SIZE = (64, 96)
IMAGES = torch.stack([(tiny.image(*SIZE, seed=seed).float() - 120) / 58 for seed in range(4)])


class Layers(nn.Module):
    """One layer of each kind: with a norm, in groups, used twice, transposed, on rows."""

    def __init__(self):
        super().__init__()
        self.data_preprocessor = ImgDataPreprocessor()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.groups = nn.Sequential(nn.Conv2d(8, 8, 3, groups=2), nn.BatchNorm2d(8), nn.ReLU())
        self.twice = nn.Conv2d(8, 8, 1, bias=False)
        self.wider = nn.ConvTranspose2d(8, 4, 2, 2)
        self.rows = nn.Linear(4, 5)

    def extract_feat(self, images):
        maps = self.groups(self.first(images))
        wide = self.wider(self.twice(self.twice(maps).relu()))
        return [self.rows(wide.permute(0, 2, 3, 1))]


class Learned(NamedTuple):
    """A student that computes with few bits, as files in float and in 8 bits, and what these are written by."""

    student: nn.Module
    float_file: Path
    file: Path
    report: Int8Report
    scales: dict[str, LayerScales]
    weights: dict[str, torch.Tensor]


def learned(student, outputs, folder, weights=None, activations=None, fold_norms=True, ends='float'):
    """Let a student see some images, and write it; weights and activations have 8 bits by default."""
    pytest.importorskip('onnxruntime')
    tiny.shake(student)
    own = {name: value.clone() for name, value in student.state_dict().items()}
    float_file, file = folder / 'one.onnx', folder / 'one.int8.onnx'
    write_onnx(student, float_file, OnnxOptions(SIZE, outputs), {})

    quantisers = weights or UniformQuantiser(bits=8), activations or MinMaxQuantiser(bits=8)
    quantised = QuantisedStudent(student, *quantisers, ends=ends, fold_norms=fold_norms)
    quantised.attach()
    quantised.begin_step(0)
    with torch.no_grad():
        forward(student)
    quantised.end_step()
    quantised.train(False)
    scales = scales_of({KEY: quantised.state(), 'state_dict': own})
    report = write_learned(float_file, file, scales, own)
    return Learned(student, float_file, file, report, scales, own)


def forward(student):
    if hasattr(student, 'encode_decode'):
        return student.encode_decode(IMAGES, [dict(img_shape=SIZE)] * len(IMAGES))
    return student.extract_feat(IMAGES)[0]
