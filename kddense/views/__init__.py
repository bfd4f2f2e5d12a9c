"""Which knowledge each model family shows, and how a teacher speaks about the student's own boxes and pixels."""

from collections.abc import Sequence

from torch import nn

from .base import Answer, ModelView, Question, ViewError, in_eval_mode, is_a, is_unlabelled
from .dense_head import DenseHeadView, DenseOpinion, DenseSample
from .depth import DepthOpinion, DepthSample, DepthView, check_depth_scale
from .segmentor import PixelOpinion, PixelSample, SegmentorView
from .two_stage import AnchorSample, BoxOpinion, RoISample, TwoStageView

__all__ = [
    'AnchorSample',
    'Answer',
    'BoxOpinion',
    'DenseHeadView',
    'DenseOpinion',
    'DenseSample',
    'DepthOpinion',
    'DepthSample',
    'DepthView',
    'ModelView',
    'PixelOpinion',
    'PixelSample',
    'Question',
    'RoISample',
    'SegmentorView',
    'TwoStageView',
    'ViewError',
    'build_view',
    'check_depth_scale',
    'in_eval_mode',
    'is_a',
    'is_unlabelled',
]

FAMILIES: tuple[type[ModelView], ...] = (TwoStageView, DenseHeadView, DepthView, SegmentorView)


def build_view(
    model: nn.Module, owner: str, input_scale: float = 1.0, class_map: Sequence[int] | None = None
) -> ModelView:
    """Return the view of the family that ``model`` belongs to; any other model shows its taps.

    Args:
        model: A detector, segmentor or any other model of OpenMMLab.
        owner: How messages call it: ``'student'`` or the config key of a teacher.
        input_scale: Size of the image that a teacher sees, relative to the student's.
        class_map: For every class of the student the teacher's, by index.
    """
    view = next((family for family in FAMILIES if family.fits(model)), ModelView)
    return view(model, owner, input_scale, class_map)
