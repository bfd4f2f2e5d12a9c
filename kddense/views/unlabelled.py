"""Images without labels, for detectors above all: features are of all images, their own losses of the labelled ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from kddense.exchange import ViewError
from kddense.registry import VIEWS
from kddense.taps import map_tensors, shadowed, tensors_of

from ._models import explain, is_a, is_unlabelled
from .base import ModelView
from .partial import check_labels

METHODS = ('loss', 'loss_and_predict')  # of a head, by which a detector of mmdet asks for its losses


def check_kinds(view: ModelView, data_samples: Sequence[Any], kinds: Iterable[str]) -> None:
    """Raise a ViewError if heads are to be compared that look at labels, and an image has none."""
    if kinds and any(map(is_unlabelled, data_samples)):
        names = [explain(kind).partition(';')[0] for kind in sorted(kinds)]
        raise ViewError(
            f'{view.owner} ({type(view.model).__name__}) has no {" and no ".join(names)} of '
            'unlabelled images, as its heads sample by labels: compare features there, of backbone or neck'
        )


@contextmanager
def without_any_label(model: Any) -> Iterator[None]:
    """Context manager: the model's own loss is a zero that reaches its features and every weight.

    So all processes of a distributed training see all gradients.
    """

    def zero_loss(inputs: Tensor, data_samples: Sequence[Any]) -> dict[str, Tensor]:
        zero = sum(0 * value.float().sum() for value in tensors_of(model.extract_feat(inputs)))
        return dict(loss_unlabelled=zero + sum(0 * weight.float().sum() for weight in model.parameters()))

    with shadowed(model, 'loss', lambda _: zero_loss):
        yield


@VIEWS.register_module()  # before all others, which are asked first
class DetectorView(ModelView):
    """A detector: of a batch in which no image has labels it shows features, and its own losses are zeros."""

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        return is_a(model, 'BaseDetector')

    def check_images(self, data_samples: Sequence[Any], kinds: Iterable[str]) -> None:
        check_kinds(self, data_samples, kinds)

    @contextmanager
    def without_labels(self, data_samples: Sequence[Any]) -> Iterator[None]:
        if not all(map(is_unlabelled, data_samples)) or not data_samples:
            check_labels(data_samples, self.owner, self.model)
            yield
            return
        with without_any_label(self.model):
            yield


class LabelledHeadsView(DetectorView):
    """A detector whose heads are asked for losses of features and data samples, as mmdet's are.

    Images without labels pass through its backbone and neck with the others; its heads are shown the labelled images alone.
    """

    @contextmanager
    def without_labels(self, data_samples: Sequence[Any]) -> Iterator[None]:
        labelled = [index for index, sample in enumerate(data_samples) if not is_unlabelled(sample)]
        if data_samples and not labelled:
            with super().without_labels(data_samples):
                yield
            return
        for sample in filter(is_unlabelled, data_samples):
            if 'labels' not in sample.get(
                'gt_instances', ()
            ):  # which some detectors rewrite before their heads see them
                sample.gt_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        with ExitStack() as stack:
            samples = [data_samples[index] for index in labelled]
            stack.enter_context(self.of_labelled_classes(samples))
            stack.enter_context(self.weighing_scores(samples))
            if len(labelled) < len(data_samples):
                wrap = _only_of(labelled, len(data_samples))
                pairs = ((head, method) for head in self.model.children() for method in METHODS)
                for head, method in pairs:
                    if hasattr(head, method):
                        stack.enter_context(shadowed(head, method, wrap))
            yield

    @contextmanager
    def of_labelled_classes(self, data_samples: Sequence[Any]) -> Iterator[None]:
        """Context manager: the losses of images whose data set labels some classes alone leave out the others."""
        check_labels(data_samples, self.owner, self.model)
        yield

    @contextmanager
    def weighing_scores(self, data_samples: Sequence[Any]) -> Iterator[None]:
        """Context manager: what is learned of the class of a box weighs as much as the box's score, if it has one."""
        check_labels(data_samples, self.owner, self.model)
        yield


def _only_of(labelled: list[int], count: int) -> Callable[[Callable], Callable]:
    def cut(value: Any) -> Any:
        if isinstance(value, (list, tuple)) and len(value) == count and all(hasattr(one, 'metainfo') for one in value):
            return [value[index] for index in labelled]
        return map_tensors(lambda one: one[labelled] if one.dim() and len(one) == count else one, value)

    def wrap(method: Callable) -> Callable:
        def of_labelled(*args: Any, **kwargs: Any) -> Any:
            return method(*map(cut, args), **{key: cut(value) for key, value in kwargs.items()})

        return of_labelled

    return wrap
