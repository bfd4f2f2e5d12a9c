"""Images whose labels tell of some classes alone: a detector's losses then learn nothing of the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from kddense.datasets import LABELLED_CLASSES
from kddense.exchange import NEVER, ViewError, others_as_background

from ._models import is_unlabelled
from .scored import have_scores


def tell_of_some(data_samples: Sequence[Any]) -> bool:
    """Tell whether there are images whose labels tell of some classes alone."""
    return any(sample.metainfo.get(LABELLED_CLASSES) is not None for sample in data_samples)


def check_labels(data_samples: Sequence[Any], owner: str, model: Any) -> None:
    """Raise a ViewError if an image lacks labels, or some, or has such with scores, for a model that needs all of them."""
    what = f'{owner} ({type(model).__name__}) cannot learn from'
    if any(map(is_unlabelled, data_samples)):
        raise ViewError(
            f'{what} unlabelled images beside labelled ones: only segmentors, depth estimators and detectors with RoI or '
            'dense heads can'
        )
    if tell_of_some(data_samples):
        raise ViewError(
            f'{what} images whose data set labels some of its classes alone, and would take the others for background: only '
            'detectors with RoI heads of softmax classes or dense heads of sigmoid classes can leave them out'
        )
    if have_scores(data_samples):
        raise ViewError(
            f'{what} boxes by their scores: only detectors with RoI or dense heads can; leave out the kddense.PseudoLabels '
            'around their data set'
        )


def absent_classes(data_samples: Sequence[Any], classes: int) -> Tensor:
    """Return of which classes the labels of each image do not tell, boolean, ``(N, K)``."""
    absent = torch.zeros(len(data_samples), classes, dtype=torch.bool)
    for row, sample in zip(absent, data_samples, strict=True):
        known = sample.metainfo.get(LABELLED_CLASSES)
        if known is not None:
            row.fill_(True)
            row[list(known)] = False
    return absent


def without_scores(absent: Tensor) -> Callable[[Callable], Callable]:
    """Return what wraps ``loss_by_feat`` of a dense head: scores of absent classes are 0 and have no gradient.

    The classes of an image that its data set does not label are left out of its losses, as in Zhou, Koltun, Krähenbühl,
    Simple Multi-dataset Detection, CVPR 2022.

    Args:
        absent: Of each image, boolean, ``(N, K)``.
    """

    def hidden(level: Tensor) -> Tensor:
        scores = level.unflatten(1, (-1, absent.shape[1]))
        return scores.masked_fill(absent.to(level.device)[:, None, :, None, None], NEVER).flatten(1, 2)

    def wrap(loss_by_feat: Callable) -> Callable:
        def of_known(cls_scores: Sequence[Tensor], *args: Any, **kwargs: Any) -> Any:
            return loss_by_feat([hidden(level) for level in cls_scores], *args, **kwargs)

        return of_known

    return wrap


def with_wide_background(absent: Tensor) -> Callable[[Callable], Callable]:
    """Return what wraps ``loss_and_target`` of a RoI head: an image's background may be one of its absent classes.

    Args:
        absent: Of each image, boolean, ``(N, K)``.
    """

    def wrap(loss_and_target: Callable) -> Callable:
        @wraps(loss_and_target)  # whose arguments are listened to by name
        def of_known(*args: Any, cls_score: Tensor, rois: Tensor, **kwargs: Any) -> Any:
            rows = absent.to(rois.device)[rois[:, 0].long()]
            return loss_and_target(*args, cls_score=others_as_background(cls_score, rows), rois=rois, **kwargs)

        return of_known

    return wrap
