"""The plain student out of a run: a checkpoint and a config for stock mmdet and mmseg, and an ONNX file for the rest.

:func:`export_student` does it all, with a module for each of its steps: :mod:`kddense.export.source` reads the run,
:mod:`kddense.export.plain_config` makes its config the student's own, :mod:`kddense.export.checkpoint` does so with the
weights, :mod:`kddense.export.onnx` writes and checks the ONNX file, with a module of :mod:`kddense.export.detectors` for
each family of detectors, :mod:`kddense.export.int8` writes it in 8 bits, and :mod:`kddense.export.files` puts all of them
in their places.
"""

from kddense.configs import config_from_text

from .agreement import Agreement
from .int8 import Int8Report
from .network import OUTPUTS
from .onnx import DYNAMIC, OnnxReport
from .plain_config import PlainConfig
from .student import Exported, export_student

__all__ = [
    'DYNAMIC',
    'OUTPUTS',
    'Agreement',
    'Exported',
    'Int8Report',
    'OnnxReport',
    'PlainConfig',
    'config_from_text',
    'export_student',
]
