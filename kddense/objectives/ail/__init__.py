"""Saputra et al. 2019, attentive imitation: objectives, and the range of a teacher's errors."""

from .objectives import (
    BOX_ERROR,
    DEPTH_ERROR,
    AttentiveBoxObjective,
    AttentiveDepthHintObjective,
    AttentiveDepthObjective,
    MeasuresTeacher,
)

__all__ = [
    'BOX_ERROR',
    'DEPTH_ERROR',
    'AttentiveBoxObjective',
    'AttentiveDepthHintObjective',
    'AttentiveDepthObjective',
    'MeasuresTeacher',
]
