"""Whole detectors as functions that ONNX can hold, one module for each family of mmdet's heads.

A family is a :class:`DetectorNetwork` that says which models it fits and what they lack; :data:`FAMILIES` lists them.
"""

from __future__ import annotations

from typing import Any

from .base import Detections, DetectorNetwork, Level
from .dense import DenseDetector
from .two_stage import TwoStageDetector

__all__ = ['FAMILIES', 'Detections', 'DetectorNetwork', 'Level', 'detector_network']

FAMILIES: tuple[type[DetectorNetwork], ...] = (TwoStageDetector, DenseDetector)


def detector_network(student: Any, suppressed: bool = True) -> DetectorNetwork:
    """Return a detector as a function of normalised images that gives boxes and scores.

    Args:
        student: A detector of mmdet in eval mode, of layers that can be exported.
        suppressed: See :class:`DetectorNetwork`.

    Raises:
        RuntimeError: If no family knows it, or a part of it is one that its family does not know.
    """
    for family in FAMILIES:
        if family.fits(student):
            return family(student, suppressed)
    raise RuntimeError(
        f'the boxes of {type(student).__name__} cannot be exported, those of Faster, Mask and Cascade R-CNN, RetinaNet, '
        'FCOS, ATSS, GFL and RTMDet can: pass --outputs features for the maps of its neck'
    )
