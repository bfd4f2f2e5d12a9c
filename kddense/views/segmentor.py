"""Segmentors of mmseg: what their heads say of every pixel; heads may be several, or a cascade."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from kddense.exchange import Answer, MapOpinion, MapSample, Question, ViewError
from kddense.registry import VIEWS
from kddense.taps import Call, Recording, Tap, Taps, map_tensors, shadowed, tensors_of

from ._models import is_a, is_unlabelled, owner_of
from ._pixels import inside_images
from .base import ModelView
from .scored import PIXEL_SCORES, have_pixel_scores, weighing_pixels

HEADS = {'pixels': 'decode_head', 'auxiliary': 'auxiliary_head'}


@VIEWS.register_module()
class SegmentorView(ModelView):
    """Every ``EncoderDecoder`` and ``CascadeEncoderDecoder`` of mmseg; of PointRend, the stages before its points.

    ``'pixels'`` is the decode head (of a cascade, the last stage), ``'auxiliary'`` the auxiliary heads, one after another.
    """

    explains = {
        'pixels': 'pixel classifier; only segmentors have one',
        'auxiliary': 'auxiliary head; some segmentors have one',
    }

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        return is_a(model, 'EncoderDecoder')

    def check(self, kind: str) -> None:
        if kind not in self.kinds:
            super().check(kind)
        heads = self._heads(kind)
        if not heads:
            super().check(kind)
        for path, head in heads.items():
            if not is_a(head, 'BaseDecodeHead'):
                raise ViewError(
                    f'{self.owner}.{path} is a {type(head).__name__}, which gives no class scores per pixel'
                )
            if not hasattr(head, 'conv_seg'):
                raise ViewError(
                    f'{self.owner}.{path} is a {type(head).__name__}, which has no classifier of a map (no conv_seg)'
                )
            self._check_class_map(head.out_channels)

    def is_sigmoid(self, kind: str) -> bool:
        """Tell whether each class is decided on its own.

        mmseg predicts the largest of several scores, as a softmax would, or one score by a sigmoid. So several scores are
        sigmoid classes only if no loss of the head reads them by a softmax.
        """
        heads = self._heads(kind).values()
        if all(head.out_channels == 1 for head in heads):
            return True
        said = {_reads_by_sigmoid(loss) for head in heads for loss in _losses_of(head)}
        return said - {None} == {True}

    def _heads(self, kind: str) -> dict[str, Any]:
        """Return the heads that speak for ``kind``, by their path in the model."""
        name = HEADS[kind]
        head = getattr(self.model, name, None)
        if head is None:
            return {}
        if not isinstance(head, nn.ModuleList):
            return {name: head}
        heads = {f'{name}.{index}': one for index, one in enumerate(head)}
        if kind == 'auxiliary':
            return heads
        maps = {path: one for path, one in heads.items() if not is_a(one, 'PointHead')}
        return dict(list(maps.items())[-1:])

    def taps_of(self, kind: str) -> list[str]:
        return ['loss()', *(f'{path}.cls_seg()' for path in self._heads(kind))]

    def read(self, recording: Recording, taps: Iterable[str], kinds: Iterable[str]) -> Answer:
        taps = frozenset(taps)
        answer = super().read(recording, taps, kinds)
        values = {tap: self._first_run(recording, tap) if self._runs_twice(tap) else answer.taps[tap] for tap in taps}
        return replace(answer, taps=values)

    def read_kind(self, kind: str, recording: Recording) -> tuple[list[Any], list[Any]]:
        batch = recording['loss()'].arguments
        opinions = [self._opinion(recording, path) for path in self._heads(kind)]
        return [self._sample(kind, batch)] * len(opinions), opinions

    def _sample(self, kind: str, batch: dict[str, Any]) -> MapSample:
        ignored = next(iter(self._heads(kind).values())).ignore_index
        return MapSample(batch['inputs'], _valid_pixels(batch['inputs'], batch['data_samples'], ignored))

    def _opinion(self, recording: Recording, path: str, as_student: bool = True) -> MapOpinion:
        tap = f'{path}.cls_seg()'
        call = self._first_run(recording, tap) if as_student and self._runs_twice(tap) else recording[tap]
        if not isinstance(call, Call):
            raise ViewError(f'{self.owner}.{path} classifies {len(call)} times in one run; only once can be compared')
        return MapOpinion(call.result, call.arguments['feat'])

    def _runs_twice(self, tap: str) -> bool:
        """In training, mmseg runs each stage of a cascade but the last for its loss, and again for the next stage."""
        head, _, stage = Tap.parse(tap).path.partition('.')
        stages = self.model.decode_head
        if head != 'decode_head' or not isinstance(stages, nn.ModuleList):
            return False
        return stage.partition('.')[0] not in ('', str(len(stages) - 1))

    def _first_run(self, recording: Recording, tap: str) -> Any:
        values = recording.calls(tap)
        values = values[: len(values) // 2]
        return values[0] if len(values) == 1 else values

    @contextmanager
    def without_labels(self, data_samples: Sequence[Any], kinds: Iterable[str] = ()) -> Iterator[None]:
        labelled = [index for index, sample in enumerate(data_samples) if not is_unlabelled(sample)]
        with ExitStack() as stack:
            if have_pixel_scores(data_samples):
                self._weigh_pixels(stack)
            for path, head in self.model.named_modules() if len(labelled) < len(data_samples) else ():
                if is_a(head, 'PointHead'):
                    raise ViewError(
                        f'{self.owner}.{path} samples labelled points: it cannot learn from unlabelled images'
                    )
                if hasattr(head, 'loss_by_feat'):
                    stack.enter_context(
                        shadowed(head, 'loss_by_feat', _only_of(labelled) if labelled else _zeros_of(head))
                    )
            yield

    def _weigh_pixels(self, stack: ExitStack) -> None:
        for path, head in self.model.named_modules():
            if hasattr(head, 'loss_by_feat'):
                if owner_of(head, 'loss_by_feat') != 'BaseDecodeHead':
                    raise ViewError(
                        f'{self.owner}.{path} is a {type(head).__name__}, whose loss knows no weights of pixels: leave '
                        f"'{PIXEL_SCORES}' out of the meta_keys of the pipeline"
                    )
                stack.enter_context(shadowed(head, 'loss_by_feat', weighing_pixels(head)))

    def fit_opinions(self, kind: str, opinions: list[Any], fit: Callable[[Tensor], Tensor]) -> list[Any]:
        return [replace(one, logits=self._mapped(fit(one.logits)), feature=fit(one.feature)) for one in opinions]

    def _mapped(self, logits: Tensor) -> Tensor:
        return logits if self.class_map is None else logits[:, self.class_map]

    def parts_of(self, kinds: Iterable[str]) -> set[str]:
        return {HEADS[kind] for kind in kinds}

    def run_head(self, part: str, features: Any, question: Question) -> dict[str, list[Any]]:
        kinds = [kind for kind in question.opinions if HEADS[kind] == part]
        paths = [path for kind in kinds for path in self._heads(kind)]
        with Taps(self.model, [f'{path}.cls_seg()' for path in paths], self.owner) as recording:
            self._run_head(part, features, question)
        return {kind: [self._opinion(recording, path, as_student=False) for path in paths] for kind in kinds}

    def _run_head(self, part: str, features: Any, question: Question) -> None:
        head = getattr(self.model, part)
        if not isinstance(head, nn.ModuleList):
            head(features)
        elif part == 'auxiliary_head':
            for auxiliary in head:
                auxiliary(features)
        else:
            self._run_cascade(head, features, question)

    def _run_cascade(self, stages: nn.ModuleList, features: Any, question: Question) -> None:
        """Run the stages up to the last one that is listened to."""
        paths = [Tap.parse(tap).path.split('.') for tap in question.taps]
        paths += [path.split('.') for path in (self._heads('pixels') if 'pixels' in question.opinions else ())]
        heard = [int(path[1]) if len(path) > 1 else len(stages) - 1 for path in paths if path[0] == 'decode_head']
        logits = stages[0](features)
        for index in range(1, max(heard) + 1):
            if is_a(stages[index], 'PointHead'):
                raise ViewError(f'{self.owner}.decode_head[{index}] reads points: tap decode_head.{index - 1} instead')
            logits = stages[index](features, logits)


def _losses_of(head: Any) -> list[Any]:
    losses = getattr(head, 'loss_decode', None)
    return list(losses) if isinstance(losses, nn.ModuleList) else [losses]


def _reads_by_sigmoid(loss: Any) -> bool | None:
    """Tell whether a loss takes each class on its own; ``None`` if it has no say."""
    if getattr(loss, 'loss_weight', 1.0) == 0 or not getattr(loss, 'activate', True):
        return None
    criterion = getattr(
        getattr(loss, 'cls_criterion', None), '__name__', ''
    )  # of LovaszLoss, which says it by this alone
    return criterion == 'lovasz_hinge' or getattr(loss, 'use_sigmoid', False) is True


def _valid_pixels(images: Tensor, data_samples: Sequence[Any], ignore_index: int) -> Tensor:
    valid = inside_images(images, data_samples)
    for image, sample in zip(valid, data_samples, strict=True):
        if not is_unlabelled(sample):
            image &= sample.gt_sem_seg.data.squeeze(0) != ignore_index
    return valid


def _only_of(labelled: list[int]) -> Callable[[Callable], Callable]:
    def wrap(loss_by_feat: Callable) -> Callable:
        def of_labelled(outputs: Any, data_samples: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
            kept = map_tensors(lambda value: value[labelled], outputs)
            return loss_by_feat(kept, [data_samples[index] for index in labelled], *args, **kwargs)

        return of_labelled

    return wrap


def _zeros_of(head: Any) -> Callable[[Callable], Callable]:
    """Return what a head without any label is to return: its losses' names, zeros that reach all it computed."""
    names = {getattr(loss, 'loss_name', 'loss') for loss in _losses_of(head)}

    def wrap(loss_by_feat: Callable) -> Callable:
        def without_labels(outputs: Any, *args: Any, **kwargs: Any) -> Any:
            zero = sum(0 * value.float().sum() for value in tensors_of(outputs))
            return dict.fromkeys(names, zero)

        return without_labels

    return wrap
