"""Layers that no ONNX file can hold: a student with one is refused by its name, before anything is traced."""

from __future__ import annotations

from typing import Any

from kddense.views import is_a

DEFORMABLE = 'deformable convolutions, which opset 17 lacks'
SIZES = 'sizes of its maps that ONNX takes for constants'
# By class of mmdet or mmcv, outer ones before what they are made of: what it needs.
LACKING = {
    'DyHead': DEFORMABLE,
    'NASFPN': SIZES,
    'BFP': 'adaptive pooling to the size of another map',  # Libra R-CNN's
    'CARAFEPack': 'reassembled features, which ONNX lacks',
    'DeformConv2d': DEFORMABLE,
    'ModulatedDeformConv2d': DEFORMABLE,
}


def check_layers(student: Any) -> None:
    """Raise a RuntimeError that names a layer of a student which cannot be exported.

    Tracing would end with a message about a node of the graph, and with deformable convolutions by ending the process.
    """
    for path, part in student.named_modules():
        for name, needs in LACKING.items():
            if is_a(part, name):
                raise RuntimeError(
                    f'{type(student).__name__} cannot be exported to ONNX: {type(part).__name__} at {path} needs {needs}'
                )
