"""Detectors of mmdet that decode queries: what their heads say of their own queries, and of those of another model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from kddense.exchange import Answer, Queries, QueryOpinion, Question, ViewError
from kddense.random_state import forked_random_state
from kddense.registry import VIEWS
from kddense.taps import Call, Recording, Tap, Taps, map_tensors, shadowed

from ._boxes import differing
from ._models import is_a, owner_of
from .alignment import cut_to
from .base import ModelView
from .unlabelled import DetectorView
from .whole_run import layers_in, of_whole_images

# Where the methods that make and decode queries come from, if how they do it is known.
FAMILIES = ('DetectionTransformer', 'DETR', 'ConditionalDETR', 'DABDETR', 'DeformableDETR', 'DINO')
HEADS = ('DETRHead', 'ConditionalDETRHead', 'DABDETRHead', 'DeformableDETRHead', 'DINOHead')
DECODES, TOKENS = 'forward_decoder()', 'pre_transformer()'
FIELDS = tuple(one.name for one in fields(Queries))


@VIEWS.register_module()
class DETRView(DetectorView):
    """DETR, Conditional, DAB and Deformable DETR, DINO: every ``DetectionTransformer`` of mmdet that decodes as one of them.

    ``'predictions'`` is what each decoder layer says of the model's own queries: two models need no more than the same
    classes, their sets of predictions can be matched. ``'queries'`` is the same of two models whose queries are alike, so
    that each can judge the other's. Boxes are relative to the image without its padding, of whatever size a teacher sees it.

    Taps in the encoder hold maps, one for each level, as elsewhere.
    """

    explains = {
        'predictions': 'decoder of queries; only detectors of the DETR family have one',
        'queries': 'decoder of queries; only detectors of the DETR family have one',
    }

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        return is_a(model, 'DetectionTransformer')

    def check(self, kind: str) -> None:
        if kind not in self.kinds:
            super().check(kind)
        head = self.model.bbox_head
        for part, methods, known in (
            (self.model, ('pre_transformer', 'pre_decoder', 'forward_decoder', 'forward_transformer'), FAMILIES),
            (head, ('forward', 'loss'), HEADS),
        ):
            if not all(owner_of(part, method) in known for method in methods):
                raise ViewError(
                    f'{self.owner} is a {type(self.model).__name__}, which makes or decodes queries in a way of its own: '
                    'only detectors that do it as DETR, ConditionalDETR, DABDETR, DeformableDETR or DINO can be compared'
                )
        self._check_class_map(head.num_classes)

    def is_sigmoid(self, kind: str) -> bool:
        return bool(self.model.bbox_head.loss_cls.use_sigmoid)

    def differences(self, teacher: ModelView, kind: str) -> list[str]:
        assert isinstance(teacher, DETRView)
        own, other = self.model.bbox_head, teacher.model.bbox_head
        classes = other.num_classes if teacher.class_map is None else len(teacher.class_map)
        found: list[tuple[str, Any, Any]] = [
            ('bbox_head.num_classes', own.num_classes, classes),
            ('bbox_head.loss_cls.use_sigmoid', self.is_sigmoid(kind), teacher.is_sigmoid(kind)),
        ]
        if kind == 'queries':
            found += [(name, value, teacher.form[name]) for name, value in self.form.items() if name in teacher.form]
        return differing(found)

    @property
    def form(self) -> dict[str, Any]:
        """What two models must have in common to judge each other's queries, by its key in the config."""
        model = self.model
        return {
            'the decoder': f'as of {owner_of(model, "forward_decoder")}',
            'as_two_stage': getattr(model, 'as_two_stage', None),
            'encoder.layer_cfg.self_attn_cfg.embed_dims': model.embed_dims,
            'decoder.query_dim': getattr(model.decoder, 'query_dim', None),
        }

    def taps_of(self, kind: str) -> list[str]:
        return [DECODES, 'bbox_head']

    def read(self, recording: Recording, taps: Iterable[str], kinds: Iterable[str]) -> Answer:
        answer = super().read(recording, taps, kinds)
        return replace(answer, taps={tap: self._maps(tap, value, recording) for tap, value in answer.taps.items()})

    def listening(self, taps: Iterable[str], kinds: Iterable[str]) -> Taps:
        taps = frozenset(taps)
        return super().listening([*taps, *([TOKENS] if any(map(_is_encoder, taps)) else [])], kinds)

    def read_kind(self, kind: str, recording: Recording) -> tuple[list[Any], list[Any]]:
        return [], [self._opinion(recording[DECODES], recording['bbox_head'])]

    def _opinion(self, call: Call, outputs: Sequence[Tensor]) -> QueryOpinion:
        """Return what the model said of its own queries; of DINO without those that its denoising adds."""
        given = {name: value for name, value in call.arguments.items() if name != 'kwargs'}
        own = self._own_queries(given)
        logits, boxes, states = (value[:, :, -own.count :] for value in (*outputs, call.result['hidden_states']))
        rest = {name: value for name, value in given.items() if name not in FIELDS}
        if 'dn_mask' in rest:
            rest['dn_mask'] = None
        return self._said(logits, boxes, states, own, rest)

    def _own_queries(self, given: dict[str, Any]) -> Queries:
        added = given.get('dn_mask') is not None
        count = self.model.num_queries if added else given['query'].shape[1]
        return Queries(**{name: given[name][:, -count:].float() for name in FIELDS if name in given})

    def _judge(self, queries: Queries, rest: Mapping[str, Any]) -> QueryOpinion:
        """Return what the model says of any queries, beside its own run."""
        with self._speaking(queries):
            given = {name: self._cast(value) for name in FIELDS if (value := getattr(queries, name)) is not None}
            decoded = self.model.forward_decoder(**given, **rest)
            logits, boxes = self.model.bbox_head(**decoded)
        return self._said(logits, boxes, decoded['hidden_states'], queries, rest)

    def _said(
        self, logits: Tensor, boxes: Tensor, states: Tensor, queries: Queries, rest: Mapping[str, Any]
    ) -> QueryOpinion:
        logits, boxes, states = (value.float().transpose(0, 1) for value in (logits, boxes, states))
        if self.class_map is not None:
            kept = [*self.class_map, *([] if self.is_sigmoid('queries') else [self.model.bbox_head.num_classes])]
            logits = logits[..., kept]
        return QueryOpinion(logits, boxes, self.is_sigmoid('queries'), queries, states, rest, self._judge)

    def task_losses(
        self, said: QueryOpinion, by: QueryOpinion, layers: Iterable[tuple[int, int]], samples: Sequence[Any]
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return what the head's own losses of classes, boxes and overlaps are if another opinion assigns the objects.

        Args:
            said: What this model says of queries.
            by: What is matched with the ground truth: what is said of the same queries.
            layers: Decoder layers of ``said``, each with the layer of ``by`` that assigns.
            samples: The batch's data samples, with ground truth.

        Returns:
            Scalars for each pair of layers, with the factors and the divisors that the head's losses have.
        """
        head = self.model.bbox_head
        truth = [sample.gt_instances for sample in samples], [sample.metainfo for sample in samples]
        losses = []
        for own, assigning in layers:
            targets = head.get_targets(list(by.logits[:, assigning]), list(by.boxes[:, assigning]), *truth)
            with shadowed(head, 'get_targets', _that_gives(targets)):
                losses.append(head.loss_by_feat_single(said.logits[:, own], said.boxes[:, own], *truth))
        return losses

    def _cast(self, value: Tensor) -> Tensor:
        """Return embeddings in the type of the layers; points and boxes stay in float32."""
        return value.to(self.image_dtype()) if value.shape[-1] == self.model.embed_dims else value

    @contextmanager
    def _speaking(self, queries: Queries) -> Iterator[None]:
        """Context manager: the model judges queries beside its own run: as ever if it trains, else as a teacher does.

        Dropout draws its numbers beside the stream from which the student's own run goes on.
        """
        with ExitStack() as stack:
            stack.enter_context(forked_random_state())
            if self.frozen:
                stack.enter_context(torch.no_grad())
                stack.enter_context(self.as_in_training())
                stack.enter_context(layers_in(self.image_dtype(), queries.query.device))
            yield

    def answer(self, question: Question, images: Tensor, covered: Sequence[int] | None = None) -> Answer:
        tapped = {tap for tap in question.taps if _is_encoder(tap)}
        if not tapped:
            return super().answer(question, images, covered)
        with Taps(self.model, [TOKENS], self.owner) as heard:
            answer = super().answer(question, images, covered)
        size, divisor = images.shape[-2:], self.image_format.size_divisor
        maps = {tap: self._maps(tap, answer.taps[tap], heard) for tap in tapped}
        cut = map_tensors(lambda value: cut_to(value, size, covered or size, divisor), maps)
        return replace(answer, taps={**answer.taps, **cut})

    def _maps(self, tap: str, value: Any, recording: Recording) -> Any:
        """Return tokens of an encoder as the maps of their levels."""
        if not _is_encoder(tap) or not isinstance(value, Tensor) or value.dim() != 3:
            return value
        features = next(iter(recording[TOKENS].arguments.values()))
        sizes = [feature.shape[-2:] for feature in features]
        sizes = sizes if value.shape[1] == sum(size.numel() for size in sizes) else sizes[-1:]
        levels = value.transpose(1, 2).split([size.numel() for size in sizes], dim=2)
        return tuple(level.unflatten(2, size) for level, size in zip(levels, sizes, strict=True))

    def run(self, question: Question, images: Tensor) -> dict[str, list[Any]]:
        beyond = {part for part in map(_part, question.taps) if part not in ('', 'backbone', 'neck')}
        if not question.opinions and not beyond:
            return super().run(question, images)
        if not beyond <= {'encoder'}:
            return super().run(replace(question, opinions=frozenset()), images)
        with layers_in(self.image_dtype(), images.device):
            features = self.model.extract_feat(images)
            samples = list(question.data_samples) or of_whole_images(images)
            if not question.opinions:
                self.model.forward_encoder(**self.model.pre_transformer(features, samples)[0])
                return {}
            with Taps(self.model, [DECODES], self.owner) as recording:
                given = self.model.forward_transformer(features, samples)
            outputs = self.model.bbox_head(**given)
        opinion = self._opinion(recording[DECODES], outputs)
        return {kind: [opinion] for kind in question.opinions}


def _that_gives(value: Any) -> Callable[[Callable], Callable]:
    return lambda _: lambda *args, **kwargs: value


def _part(tap: str) -> str:
    return Tap.parse(tap).path.partition('.')[0]


def _is_encoder(tap: str) -> bool:
    return _part(tap) == 'encoder' and Tap.parse(tap).side != 'call'
