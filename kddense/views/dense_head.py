"""One-stage detectors of mmdet: the student's anchors or points, and their score maps, judged by both networks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kddense.exchange import DenseOpinion, DenseSample, MapOpinion, MapSample, Question, ViewError
from kddense.registry import VIEWS
from kddense.taps import Call, Recording, shadowed

from ._best import with_best
from ._boxes import as_tensor, coder_of, differing, prior_differences
from ._models import is_a, owner_of
from ._pixels import inside_images
from .base import ModelView
from .partial import absent_classes, tell_of_some, without_scores
from .scored import have_scores, scores_of, weights_at
from .unlabelled import LabelledHeadsView

# What a head's `get_targets()` returns, and which boxes its losses look at, is known if both are those of one of these.
TRAINED_AS = ('AnchorHead', 'FCOSHead', 'ATSSHead', 'GFLHead', 'RTMDetHead')
IN_DISTANCES = ('FCOSHead', 'GFLHead', 'RTMDetHead')
PLACES = 'unlabelled_places'  # in the student's train_cfg: how many of an image without labels are compared


@VIEWS.register_module()
class DenseHeadView(LabelledHeadsView):
    """RetinaNet, FCOS, ATSS, GFL, RTMDet, and every ``SingleStageDetector`` of mmdet whose head trains as one of theirs.

    ``'dense'`` is what the head says at the places that its own classification loss looks at; in images without labels at
    those where the student's greatest class score is highest, ``train_cfg.unlabelled_places`` of each, 1000 by default.
    ``'scores'`` is its score map of each level, and the level of the pyramid that the head makes it of; it needs no sample.
    """

    explains = {
        'dense': 'dense head; only one-stage detectors have one',
        'scores': 'dense head; only one-stage detectors have one',
    }
    sampled_kinds = frozenset({'dense'})
    of_unlabelled = frozenset(explains)

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        return is_a(model, 'SingleStageDetector')

    @property
    def reg_max(self) -> int | None:
        """The greatest distance that the head's distributions know, in strides; ``None`` for heads without any."""
        return self.model.bbox_head.reg_max if self._trained_as == 'GFLHead' else None

    @property
    def _trained_as(self) -> str | None:
        """The head of mmdet whose targets and losses the head has."""
        owners = {owner_of(self.model.bbox_head, method) for method in ('get_targets', 'loss_by_feat')}
        return owners.pop() if len(owners) == 1 else None

    @property
    def _first_target(self) -> int:
        """Where in what ``get_targets()`` returns labels and their weights begin."""
        return 0 if self._trained_as == 'AnchorHead' else 1  # the others return their anchors too

    @property
    def _most_places(self) -> Any:
        """How many places of an image without labels are sampled; 1000 is mmdet's own number of candidates, ``nms_pre``."""
        return (getattr(self.model, 'train_cfg', None) or {}).get(PLACES, 1000)

    def check(self, kind: str) -> None:
        if kind not in self.kinds or not hasattr(self.model, 'bbox_head'):
            super().check(kind)
        head = self.model.bbox_head
        found = f'{self.owner}.bbox_head is a {type(head).__name__}'
        if not getattr(head, 'use_sigmoid_cls', True):
            mend = ' (loss_cls.use_sigmoid=True)' if hasattr(head, 'loss_cls') else ''  # SSD's has none
            raise ViewError(
                f'{found} with softmax classes: only heads that decide each class on its own, by a sigmoid, can be '
                f'compared{mend}'
            )
        if self._trained_as not in TRAINED_AS:
            raise ViewError(
                f'{found}, which finds its targets or its losses in a way of its own: only heads that train as '
                'RetinaHead, FCOSHead, ATSSHead, GFLHead or RTMDetHead can be compared'
            )
        if head.cls_out_channels != head.num_classes:
            raise ViewError(f'{found} with {head.cls_out_channels} scores for {head.num_classes} classes')
        if not isinstance(self._most_places, int) or self._most_places < 1:
            raise ViewError(
                f'{self.owner}.train_cfg.{PLACES} must be a number of at least 1, got {self._most_places!r}'
            )
        self._check_class_map(head.num_classes)

    def is_sigmoid(self, kind: str) -> bool:
        return True

    def differences(self, teacher: ModelView, kind: str) -> list[str]:
        assert isinstance(teacher, DenseHeadView)
        if teacher.input_scale != self.input_scale:
            raise ViewError(
                f'{teacher.owner}.input_scale is {teacher.input_scale:g}, and the levels of two image sizes do not look at '
                'the same objects: remove this objective, or the input_scale'
            )
        own, other = self.model.bbox_head, teacher.model.bbox_head
        key = 'bbox_head' if self._trained_as == 'FCOSHead' else 'bbox_head.anchor_generator'
        priors = prior_differences(key, own.prior_generator, other.prior_generator)
        classes = teacher.mapped_classes or other.num_classes
        fields: list[tuple[str, Any, Any]] = [('bbox_head.num_classes', own.num_classes, classes)]
        if kind == 'dense':
            fields.append(('bbox_head.bbox_coder', coder_of(own.bbox_coder), coder_of(other.bbox_coder)))
            fields.append(('bbox_head.reg_max', self.reg_max, teacher.reg_max))
        return priors + differing(fields)

    @contextmanager
    def of_labelled_classes(self, data_samples: Sequence[Any]) -> Iterator[None]:
        if not tell_of_some(data_samples):
            yield
            return
        self.check('dense')
        head = self.model.bbox_head
        with shadowed(head, 'loss_by_feat', without_scores(absent_classes(data_samples, head.num_classes))):
            yield

    @contextmanager
    def weighing_scores(self, data_samples: Sequence[Any]) -> Iterator[None]:
        if not have_scores(data_samples):
            yield
            return
        self.check('dense')
        with shadowed(self.model.bbox_head, 'loss_by_feat', self._weighing):
            yield

    def _weighing(self, loss_by_feat: Callable) -> Callable:
        """Return ``loss_by_feat`` with weights of places: of its loss of classes if the head has none of its own."""
        head = self.model.bbox_head
        found: list[Tensor] = []

        def wrap_targets(scores: Sequence[Tensor], get_targets: Callable) -> Callable:
            def weighed(*args: Any, **kwargs: Any) -> Any:
                result = get_targets(*args, **kwargs)
                instances = inspect.signature(get_targets).bind(*args, **kwargs).arguments['batch_gt_instances']
                weights = self._weights(scores, Call(dict(batch_gt_instances=instances), result))
                if self._trained_as == 'FCOSHead':
                    found[:] = [torch.cat([level.flatten() for level in weights])]
                    return result
                at = self._first_target + 1
                own = [one * weight for one, weight in zip(result[at], weights, strict=True)]
                return (*result[:at], own, *result[at + 1 :])

            return weighed

        def wrap_loss(loss: Callable) -> Callable:
            return lambda *args, **kwargs: loss(*args, **kwargs, **(dict(weight=found[0]) if found else {}))

        def of_scores(scores: Sequence[Tensor], *args: Any, **kwargs: Any) -> Any:
            with (
                shadowed(head, 'get_targets', partial(wrap_targets, scores)),
                shadowed(head.loss_cls, 'forward', wrap_loss),
            ):
                return loss_by_feat(scores, *args, **kwargs)

        return of_scores

    def _weights(self, scores: Sequence[Tensor], call: Call) -> list[Tensor]:
        """Return how much each place of each level counts, ``(N, l)``."""
        sample = self._sample([scores], call)
        instances = call.arguments['batch_gt_instances']
        at = sample.index[sample.positive]
        weights = scores[0].new_ones(len(instances) * len(sample.priors))
        weights[at] = weights_at(
            self._boxes(sample), sample.image[sample.positive], sample.ground_truth, scores_of(instances)
        ).to(weights)
        counts = sample.levels.bincount(minlength=len(sample.strides)).tolist()
        return list(weights.view(len(instances), -1).split(counts, dim=1))

    def _boxes(self, sample: DenseSample) -> Tensor:
        """Return the boxes that the positives of a sample are to find, in pixels."""
        place = sample.index[sample.positive] % len(sample.priors)
        priors = sample.priors[place]
        if self._trained_as not in IN_DISTANCES:
            return self.model.bbox_head.bbox_coder.decode(priors, sample.targets)
        points = (priors[:, :2] + priors[:, 2:]) / 2 if priors.shape[1] == 4 else priors
        distances = sample.targets * torch.tensor(sample.strides, device=priors.device)[sample.levels[place], None]
        return torch.cat([points - distances[:, :2], points + distances[:, 2:]], dim=1)

    def sources_of(self, kinds: Iterable[str]) -> list[str]:
        return ['bbox_head' for _ in set(kinds)]

    def taps_of(self, kind: str) -> list[str]:
        if kind == 'dense':
            return ['loss()', 'bbox_head', 'bbox_head.get_targets()']
        return ['loss()', 'bbox_head:input', 'bbox_head']

    def read_kind(self, kind: str, recording: Recording) -> tuple[list[Any], list[Any]]:
        outputs, batch = recording['bbox_head'], recording['loss()'].arguments
        if kind == 'dense':
            places = self._sample(outputs, recording['bbox_head.get_targets()'])
            opinion = self._opinion(outputs, places)
            places = with_best(places, opinion.best_scores, batch['batch_data_samples'], self._most_places)
            return [places], [replace(opinion, sample=places)]
        opinions = _levels(recording['bbox_head:input'], outputs[0])
        sample = MapSample(batch['batch_inputs'], inside_images(batch['batch_inputs'], batch['batch_data_samples']))
        return [sample] * len(opinions), opinions

    def _sample(self, outputs: Sequence[Sequence[Tensor]], call: Call) -> DenseSample:
        head = self.model.bbox_head
        sizes = tuple((level.shape[-2], level.shape[-1]) for level in outputs[0])
        places = [as_tensor(level) for level in head.prior_generator.grid_priors(sizes, device=outputs[0][0].device)]
        strides = tuple(int(stride[0]) for stride in head.prior_generator.strides)
        priors = torch.cat(places)
        labels, index, targets = self._targets(call)
        labels = labels[index]
        positive = (labels < head.num_classes).nonzero().squeeze(1)
        at = index[positive]
        stride = torch.cat([level.new_full((len(level), 1), size) for level, size in zip(places, strides, strict=True)])
        at_prior = at % len(priors)
        return DenseSample(
            index=index,
            labels=labels,
            positive=positive,
            targets=self._in_own_space(targets[at], priors[at_prior], stride[at_prior]),
            priors=priors,
            level_sizes=sizes,
            strides=strides,
            ground_truth=tuple(as_tensor(one.bboxes) for one in call.arguments['batch_gt_instances']),
            left_out=(0,) * len(call.arguments['batch_gt_instances']),
            num_classes=head.num_classes,
        )

    def _targets(self, call: Call) -> tuple[Tensor, Tensor, Tensor]:
        """Return labels and box targets of all places, and which places count."""
        if self._trained_as == 'FCOSHead':
            number = len(call.arguments['batch_gt_instances'])
            labels, targets = (
                torch.cat([level.unflatten(0, (number, -1)) for level in levels], dim=1) for levels in call.result
            )
            return labels.flatten(), torch.arange(labels.numel(), device=labels.device), targets.flatten(0, 1)
        first = self._first_target
        labels, weights, targets = (torch.cat(levels, dim=1) for levels in call.result[first : first + 3])
        return labels.flatten(), weights.flatten().nonzero().squeeze(1), targets.flatten(0, 1)

    def _in_own_space(self, targets: Tensor, priors: Tensor, stride: Tensor) -> Tensor:
        head = self.model.bbox_head
        if self._trained_as == 'FCOSHead':
            return targets if head.norm_on_bbox else targets / stride
        if self._trained_as in IN_DISTANCES:
            points = (priors[:, :2] + priors[:, 2:]) / 2 if priors.shape[1] == 4 else priors
            return torch.cat([points - targets[:, :2], targets[:, 2:] - points], dim=1) / stride
        return head.bbox_coder.encode(priors, targets) if head.reg_decoded_bbox else targets

    def _opinion(self, outputs: Sequence[Sequence[Tensor]], sample: DenseSample) -> DenseOpinion:
        boxes = tuple(outputs[1])
        if self._gives_pixels():
            boxes = tuple(level / stride for level, stride in zip(boxes, sample.strides, strict=True))
        return DenseOpinion(sample, tuple(map(self._mapped, outputs[0])), boxes, self.reg_max)

    def _gives_pixels(self) -> bool:
        """Tell whether the head gives distances in pixels now: FCOS may learn strides, and then predicts pixels."""
        head = self.model.bbox_head
        if self._trained_as == 'FCOSHead':
            return not (head.norm_on_bbox and head.training)
        return self._trained_as == 'RTMDetHead'

    def _mapped(self, scores: Tensor) -> Tensor:
        if self.class_map is None:
            return scores
        return scores.unflatten(1, (-1, self.model.bbox_head.num_classes))[:, :, self.class_map].flatten(1, 2)

    def fit_opinions(self, kind: str, opinions: list[Any], fit: Callable[[Tensor], Tensor]) -> list[Any]:
        if kind != 'scores':
            return opinions
        return [MapOpinion(fit(one.logits), fit(one.feature)) for one in opinions]

    def parts_of(self, kinds: Iterable[str]) -> set[str]:
        return {'bbox_head' for _ in kinds}

    def run_head(self, part: str, features: Any, question: Question) -> dict[str, list[Any]]:
        if part != 'bbox_head' or not question.opinions:
            return super().run_head(part, features, question)
        outputs = self.model.bbox_head(features)
        opinions: dict[str, list[Any]] = {}
        if 'dense' in question.opinions:
            opinions['dense'] = [self._opinion(outputs, sample) for sample in question.samples['dense']]
        if 'scores' in question.opinions:
            opinions['scores'] = _levels(features, [self._mapped(scores) for scores in outputs[0]])
        return opinions


def _levels(features: Sequence[Tensor], scores: Sequence[Tensor]) -> list[MapOpinion]:
    return [MapOpinion(*level) for level in zip(scores, features, strict=True)]
