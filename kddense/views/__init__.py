"""Which knowledge each model family shows, and how a teacher speaks about the student's own boxes and pixels."""

from typing import Any

from torch import nn

from kddense.exchange import ViewError
from kddense.registry import VIEWS

from ._models import is_a, is_unlabelled, owner_of
from ._pixels import inside_images
from .base import ModelView
from .compiled import CompiledParts, begin_graphs, captures_graphs
from .dense_head import DenseHeadView
from .depth import DepthView, check_depth_scale
from .detr import DETRView
from .differentiable import twice_differentiable
from .mask_former import MaskFormerView, MaskSegmentorView
from .panoptic import PanopticView
from .probing import in_eval_mode
from .segmentor import SegmentorView
from .two_stage import TwoStageView
from .unlabelled import match_masks

__all__ = [
    'CompiledParts',
    'DETRView',
    'DenseHeadView',
    'DepthView',
    'MaskFormerView',
    'MaskSegmentorView',
    'ModelView',
    'PanopticView',
    'SegmentorView',
    'TwoStageView',
    'ViewError',
    'begin_graphs',
    'build_view',
    'captures_graphs',
    'check_depth_scale',
    'in_eval_mode',
    'inside_images',
    'is_a',
    'is_unlabelled',
    'match_masks',
    'owner_of',
    'twice_differentiable',
]


def build_view(model: nn.Module, owner: str, **options: Any) -> ModelView:
    """Return the view of the family that ``model`` belongs to; any other model shows its taps.

    Families are asked in the order of their registration, the latest first: a new one may take over a part of another's.

    Args:
        model: A detector, segmentor or any other model.
        owner: How messages call it: ``'student'`` or the config key of a teacher.
        **options: More arguments of :class:`ModelView`.
    """
    view = next((family for family in reversed(VIEWS.module_dict.values()) if family.fits(model)), ModelView)
    return view(model, owner, **options)
