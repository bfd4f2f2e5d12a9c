"""Images without labels, for detectors above all: what is compared is of all, their own losses are of the labelled ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import wraps
from typing import Any

import numpy as np
from mmengine import dist
from torch import Tensor, nn

from kddense.datasets.unlabelled import no_boxes
from kddense.exchange import ViewError
from kddense.registry import VIEWS
from kddense.taps import map_tensors, shadowed, tensors_of

from ._models import explain, is_a, is_unlabelled, owner_of
from .base import ModelView
from .partial import check_labels

METHODS = ('loss', 'loss_and_predict')  # of a head, by which a detector of mmdet asks for its losses
OF_MAPS = 'loss_by_feat'  # by which a dense head makes its losses of what it said of all images
# Whose methods run their head on the images that they are given, and only then look at labels.
STOCK = ('BaseDenseHead', 'StandardRoIHead', 'CascadeRoIHead')


def check_kinds(view: ModelView, data_samples: Sequence[Any], kinds: Iterable[str]) -> None:
    """Raise a ViewError if heads are to be compared that look at labels, and an image has none."""
    if kinds and any(map(is_unlabelled, data_samples)):
        names = [explain(kind).partition(';')[0] for kind in sorted(kinds)]
        raise ViewError(
            f'{view.owner} ({type(view.model).__name__}) has no {" and no ".join(names)} of '
            'unlabelled images, as its heads sample by labels: compare features there, of backbone or neck'
        )


def match_masks(data_samples: Sequence[Any]) -> None:
    """Give blank masks to images without labels if others have masks: mmdet's preprocessor pads those of all or of none."""
    if any('masks' in sample.get('gt_instances', ()) for sample in data_samples):
        give_masks(data_samples)


def give_masks(data_samples: Sequence[Any]) -> None:
    """Give blank masks to images without labels, as mask heads look for those of every image."""
    from mmdet.structures.mask import BitmapMasks  # here, because only detectors need mmdet

    for sample in filter(is_unlabelled, data_samples):
        if 'masks' not in sample.gt_instances:
            count = len(sample.gt_instances)
            sample.gt_instances.masks = BitmapMasks(np.zeros((count, 1, 1), dtype=np.uint8), 1, 1)


@contextmanager
def without_any_label(model: Any) -> Iterator[None]:
    """Context manager: the model's own loss is a zero that reaches its features and every weight.

    So all processes of a distributed training see all gradients.
    """

    def zero_loss(inputs: Tensor, data_samples: Sequence[Any]) -> dict[str, Tensor]:
        zero = sum(0 * value.float().sum() for value in tensors_of(model.extract_feat(inputs)))
        return dict(loss_unlabelled=zero + _touch(model))

    with shadowed(model, 'loss', lambda _: zero_loss):
        yield


@contextmanager
def counting_nothing(model: Any) -> Iterator[None]:
    """Context manager: the model's own losses are made, and are zeros that reach every weight.

    So its heads speak, and processes of a distributed training wait for each other as often as with labels.
    """

    def wrap(loss: Callable) -> Callable:
        @wraps(loss)
        def zeros(*args: Any, **kwargs: Any) -> dict[str, Any]:
            losses = {key: value for key, value in loss(*args, **kwargs).items() if 'loss' in key}
            return map_tensors(lambda value: 0 * value.float(), losses) | dict(loss_unlabelled=_touch(model))

        return zeros

    with shadowed(model, 'loss', wrap):
        yield


def nothing_counts(model: Any, blank: Callable[[], None]) -> AbstractContextManager[None]:
    """Return a context manager in which the model's own loss is 0, of a batch in which no image has labels.

    Args:
        model: The model.
        blank: Gives the images blank labels: of several processes others wait for the heads, which look at them.
    """
    if dist.get_world_size() == 1:
        return without_any_label(model)
    blank()
    return counting_nothing(model)


def _touch(model: Any) -> Tensor:
    return sum(0 * weight.float().sum() for weight in model.parameters())


@VIEWS.register_module()  # before all others, which are asked first
class DetectorView(ModelView):
    """A detector: of a batch in which no image has labels it shows features, and its own losses are zeros.

    Attributes:
        of_unlabelled: Kinds of knowledge that it shows of unlabelled images too.
    """

    of_unlabelled: frozenset[str] = frozenset()

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        return is_a(model, 'BaseDetector')

    def check_images(self, data_samples: Sequence[Any], kinds: Iterable[str]) -> None:
        check_kinds(self, data_samples, set(kinds) - self.of_unlabelled)

    @contextmanager
    def without_labels(self, data_samples: Sequence[Any], kinds: Iterable[str] = ()) -> Iterator[None]:
        if not all(map(is_unlabelled, data_samples)) or not data_samples:
            check_labels(data_samples, self.owner, self.model)
            yield
            return
        with nothing_counts(self.model, lambda: self._blank_all(data_samples)):
            yield

    def _blank_all(self, data_samples: Sequence[Any]) -> None:
        self._blank(data_samples)
        give_masks(data_samples)

    def _blank(self, data_samples: Sequence[Any]) -> None:
        """Give a ground truth of no boxes to images without any: some detectors and heads look at that of every image."""
        device = next(self.model.parameters()).device
        for sample in filter(is_unlabelled, data_samples):
            for name in ('gt_instances', 'ignored_instances'):
                if 'labels' not in sample.get(name, ()):
                    setattr(sample, name, no_boxes(device))


class LabelledHeadsView(DetectorView):
    """A detector whose heads are asked for losses of features and data samples, as mmdet's are.

    Images without labels pass through its backbone and neck with the others; its heads are shown the labelled images alone,
    but those heads all images whose knowledge is asked for.
    """

    def heads_of(self, kinds: Iterable[str]) -> set[str]:
        """Return the heads that have to see an image for it to show these kinds."""
        return self.parts_of(kinds)

    def check_images(self, data_samples: Sequence[Any], kinds: Iterable[str]) -> None:
        super().check_images(data_samples, kinds)
        if not any(map(is_unlabelled, data_samples)):
            return
        for part in sorted(self.heads_of(kinds)):
            head = getattr(self.model, part, None)
            owners = {owner_of(head, method) for method in METHODS} - {None}
            if not owners or owners.difference(STOCK):
                raise ViewError(
                    f'{self.owner}.{part} is a {type(head).__name__}, which makes its losses in a way of its own, and shows '
                    'nothing of unlabelled images: compare features there, of backbone or neck'
                )

    @contextmanager
    def without_labels(self, data_samples: Sequence[Any], kinds: Iterable[str] = ()) -> Iterator[None]:
        labelled = [index for index, sample in enumerate(data_samples) if not is_unlabelled(sample)]
        self._blank(data_samples)
        if data_samples and not labelled and not kinds and dist.get_world_size() == 1:
            with super().without_labels(data_samples):
                yield
            return
        counting = labelled or list(range(len(data_samples)))[:1]  # one stands in for the others, and counts 0
        if not labelled:
            give_masks(data_samples)
        with ExitStack() as stack:
            samples = self.samples_behind(data_samples, counting, kinds)
            stack.enter_context(self.of_labelled_classes(samples))
            stack.enter_context(self.weighing_scores(samples))
            if len(labelled) < len(data_samples):
                stack.enter_context(self.leaving_out(data_samples, counting, kinds))
                if not labelled:
                    stack.enter_context(counting_nothing(self.model))
            yield

    def samples_behind(self, data_samples: Sequence[Any], counting: list[int], kinds: Iterable[str]) -> list[Any]:
        """Return the data samples that are known to the losses in which some images count."""
        return [data_samples[index] for index in counting]

    @contextmanager
    def leaving_out(self, data_samples: Sequence[Any], counting: list[int], kinds: Iterable[str]) -> Iterator[None]:
        """Context manager: some images alone count in the losses of the heads.

        Args:
            data_samples: Of all images.
            counting: Which images.
            kinds: What is to be shown of all images.
        """
        wrap = _only_of(counting, len(data_samples))
        of_all = self.heads_of(kinds)
        with ExitStack() as stack:
            for name, head in self.model.named_children():
                for method in [OF_MAPS] if name in of_all else METHODS:
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
        if isinstance(value, (list, tuple)) and len(value) == count and all(map(_is_about_an_image, value)):
            return [value[index] for index in labelled]
        return map_tensors(lambda one: one[labelled] if one.dim() and len(one) == count else one, value)

    def wrap(method: Callable) -> Callable:
        def of_labelled(*args: Any, **kwargs: Any) -> Any:
            return method(*map(cut, args), **{key: cut(value) for key, value in kwargs.items()})

        return of_labelled

    return wrap


def _is_about_an_image(value: Any) -> bool:
    """Tell whether a value is a data sample, its boxes (``None`` for no ignored ones) or what is known of its image."""
    return value is None or isinstance(value, dict) or hasattr(value, 'metainfo')
