"""Two-stage detectors of mmdet: the student's sampled anchors and RoIs, judged by both networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kddense.exchange import AnchorSample, BoxOpinion, Question, RoISample, ViewError, rows_of
from kddense.registry import VIEWS
from kddense.taps import Call, Recording, shadowed

from ._best import best_proposals, with_best
from ._boxes import as_tensor, coder_of, decides_each_class, differing, is_plain_box_head, prior_differences
from ._models import is_a, is_unlabelled
from ._rois import extract_in_float32, extractors, roi_opinion
from .base import ModelView
from .masks import blank_masks, check_masks, mask_differences, mask_taps, read_masks, run_masks
from .partial import absent_classes, check_labels, tell_of_some, with_wide_background
from .scored import have_scores, scores_of, weighing_rois
from .unlabelled import LabelledHeadsView

UNFIT_ROI_HEADS = {
    'DynamicRoIHead': 'changes its box coder while it trains: its boxes cannot be compared with others',
    'PISARoIHead': 'weights its samples in a loss of its own, which shows no targets',
}


@VIEWS.register_module()
class TwoStageView(LabelledHeadsView):
    """Faster, Mask and Cascade R-CNN and every ``TwoStageDetector`` of mmdet built of the same heads."""

    explains = {
        'rpn': 'region proposal network; only two-stage detectors have one',
        'roi': 'RoI head; only two-stage detectors have one',
        'masks': 'mask head on RoIs; only Mask R-CNN and its kin have one',
    }
    sampled_kinds = frozenset(explains)
    of_unlabelled = frozenset(explains)

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        return is_a(model, 'TwoStageDetector')

    @property
    def box_heads(self) -> list[Any]:
        """The box heads, one per stage."""
        head = self.model.roi_head.bbox_head
        return list(head) if isinstance(head, nn.ModuleList) else [head]

    def check(self, kind: str) -> None:
        if kind not in self.kinds:
            super().check(kind)
        self._check_branches()
        if kind == 'rpn':
            self._check_rpn()
        elif kind == 'roi':
            self._check_roi()
        else:
            check_masks(self.model, self.owner)

    def probe(self, taps: Iterable[str]) -> dict[str, list[Tensor]]:
        self._check_branches()
        return super().probe(taps)

    def _check_branches(self) -> None:
        if not self.frozen and is_a(self.model, 'TridentFasterRCNN'):
            raise ViewError(
                f'{self.owner} is a TridentFasterRCNN, which trains on each image once for each of its branches, while a '
                'teacher sees it once: it can be a teacher, but no student'
            )

    def _check_rpn(self) -> None:
        head = getattr(self.model, 'rpn_head', None)
        if not is_a(head, 'RPNHead'):
            found = 'none' if head is None else type(head).__name__
            raise ViewError(f'{self.owner}.rpn_head must be an RPNHead, found {found}')

    def _check_roi(self) -> None:
        self._check_box_heads()
        if any(map(decides_each_class, self.box_heads)):
            raise ViewError(
                f'{self.owner}.roi_head.bbox_head.loss_cls decides each class on its own, by a sigmoid: only RoI heads with '
                'a softmax over their classes can be compared (use_sigmoid=False)'
            )

    def _check_box_heads(self) -> None:
        self._check_branches()
        roi_head = self.model.roi_head
        for name, reason in UNFIT_ROI_HEADS.items():
            if is_a(roi_head, name):
                raise ViewError(f'{self.owner}.roi_head is a {name}, which {reason}')
        heads: list[Any] = self.box_heads if hasattr(roi_head, 'bbox_head') else [None]
        for head in heads:
            if not is_plain_box_head(head):
                raise ViewError(
                    f'{self.owner}.roi_head.bbox_head must be a BBoxHead with softmax classes and box regression, '
                    f'found {type(head).__name__}'
                )
            self._check_class_map(head.num_classes)

    def check_teacher(self, kind: str) -> None:
        super().check_teacher(kind)
        fused = [name for name in ('with_semantic', 'with_glbctx') if getattr(self.model.roi_head, name, False)]
        if kind == 'roi' and fused:
            raise ViewError(
                f'{self.owner}.roi_head fuses an image-wide branch into its RoI features ({fused[0]}), which a teacher '
                'cannot do here: take a teacher without it'
            )

    def differences(self, teacher: ModelView, kind: str) -> list[str]:
        assert isinstance(teacher, TwoStageView)
        if kind == 'rpn' and teacher.input_scale != self.input_scale:
            raise ViewError(
                f'{teacher.owner}.input_scale is {teacher.input_scale:g}, and the anchors of two image sizes are not the '
                'same boxes: remove this objective (RoIs are scaled along, they can be distilled), or the input_scale'
            )
        if kind == 'masks':
            return mask_differences(self.model, teacher.model, teacher.class_map)
        return self._rpn_differences(teacher) if kind == 'rpn' else self._roi_differences(teacher)

    def _rpn_differences(self, teacher: TwoStageView) -> list[str]:
        own, other = self.model.rpn_head, teacher.model.rpn_head
        ours, theirs = own.prior_generator, other.prior_generator
        coder = ('rpn_head.bbox_coder', coder_of(own.bbox_coder), coder_of(other.bbox_coder))
        return prior_differences('rpn_head.anchor_generator', ours, theirs) + differing([coder])

    def _roi_differences(self, teacher: TwoStageView) -> list[str]:
        ours, theirs = self.box_heads, teacher.box_heads
        if len(ours) != len(theirs):
            return differing([('roi_head.num_stages', len(ours), len(theirs))])
        fields = []
        for stage, (own, other) in enumerate(zip(ours, theirs, strict=True)):
            key = 'roi_head.bbox_head' if len(ours) == 1 else f'roi_head.bbox_head[{stage}]'
            theirs_of_ours = teacher.mapped_classes or other.num_classes
            fields.append((f'{key}.num_classes', own.num_classes, theirs_of_ours))
            fields.append((f'{key}.bbox_coder', coder_of(own.bbox_coder), coder_of(other.bbox_coder)))
        return differing(fields)

    @contextmanager
    def of_labelled_classes(self, data_samples: Sequence[Any]) -> Iterator[None]:
        if not tell_of_some(data_samples):
            yield
            return
        self._check_box_heads()
        if any(map(decides_each_class, self.box_heads)):
            check_labels(data_samples, self.owner, self.model)
        wrap = with_wide_background(absent_classes(data_samples, self.box_heads[0].num_classes))
        with ExitStack() as stack:
            for head in self.box_heads:
                stack.enter_context(shadowed(head, 'loss_and_target', wrap))
            yield

    @contextmanager
    def weighing_scores(self, data_samples: Sequence[Any]) -> Iterator[None]:
        with ExitStack() as stack:
            if have_scores(data_samples):
                self._check_box_heads()
                wrap = weighing_rois(scores_of([sample.gt_instances for sample in data_samples]))
                for head in self.box_heads:
                    stack.enter_context(shadowed(head, 'get_targets', wrap))
            yield

    def heads_of(self, kinds: Iterable[str]) -> set[str]:
        return {part for own in self.parts_of(kinds) for part in ('rpn_head', own)}  # RoIs are its proposals

    def check_images(self, data_samples: Sequence[Any], kinds: Iterable[str]) -> None:
        super().check_images(data_samples, kinds)
        if 'masks' in kinds and any(map(is_unlabelled, data_samples)):
            self._check_box_heads()

    def samples_behind(self, data_samples: Sequence[Any], counting: list[int], kinds: Iterable[str]) -> list[Any]:
        if 'roi_head' in self.heads_of(kinds):  # whose RoIs are then numbered by the images of the whole batch
            return list(data_samples)
        return super().samples_behind(data_samples, counting, kinds)

    @contextmanager
    def leaving_out(self, data_samples: Sequence[Any], counting: list[int], kinds: Iterable[str]) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(super().leaving_out(data_samples, counting, kinds))
            if 'roi_head' in self.heads_of(kinds):
                stack.enter_context(best_proposals(self.model.roi_head, data_samples, counting))
            yield

    def kinds_behind(self, taps: Iterable[str]) -> frozenset[str]:
        found = {'masks' if tap.startswith('roi_head.mask') else 'roi' for tap in taps if tap.startswith('roi_head')}
        return frozenset(found)

    def sources_of(self, kinds: Iterable[str]) -> list[str]:
        return sorted({'rpn_head' if kind == 'rpn' else 'extract_feat()' for kind in kinds})

    def taps_of(self, kind: str) -> list[str]:
        if kind == 'rpn':
            return ['loss()', 'rpn_head', 'rpn_head.get_targets()']
        if kind == 'masks':
            return mask_taps(self.model)
        if isinstance(self.model.roi_head.bbox_head, nn.ModuleList):
            return [f'roi_head.bbox_head.{stage}.loss_and_target()' for stage in range(len(self.box_heads))]
        return ['roi_head.bbox_head.loss_and_target()']

    def read_kind(self, kind: str, recording: Recording) -> tuple[list[Any], list[Any]]:
        if kind == 'rpn':
            sample = self._anchors(recording['rpn_head'], recording['rpn_head.get_targets()'], recording['loss()'])
            return [sample], [self._rpn_opinion(recording['rpn_head'], sample)]
        if kind == 'masks':
            return read_masks(self.model, recording)
        weights = getattr(self.model.roi_head, 'stage_loss_weights', [1.0])
        first, *later = self.taps_of('roi')
        # A cascade ends early where no box is left; its first stage always runs.
        calls = [recording[first], *(recording[tap] for tap in later if recording.heard(tap))]
        read = [self._read_roi(*stage) for stage in zip(self.box_heads, calls, weights, strict=False)]
        return [sample for sample, _ in read], [opinion for _, opinion in read]

    def _anchors(self, outputs: tuple[list[Tensor], list[Tensor]], targets: Call, batch: Call) -> AnchorSample:
        head = self.model.rpn_head
        labels, label_weights, deltas = (torch.cat(levels, dim=1) for levels in targets.result[:3])
        index = label_weights.flatten().nonzero().squeeze(1)
        positive = (labels.flatten()[index] < head.num_classes).nonzero().squeeze(1)
        wanted = deltas.flatten(0, 1)[index[positive]]
        if head.reg_decoded_bbox:
            anchors = torch.cat([as_tensor(torch.cat(list(levels))) for levels in targets.arguments['anchor_list']])
            wanted = head.bbox_coder.encode(anchors[index[positive]], wanted)
        sizes = tuple((level.shape[-2], level.shape[-1]) for level in outputs[0])
        sample = AnchorSample(index, positive, wanted, sizes, per_image=labels.shape[1])

        def scores() -> Tensor:
            logits = rows_of(outputs[0], head.cls_out_channels, sizes)
            return (logits[:, 0] - logits[:, 1:].sum(1)).view(-1, sample.per_image)

        most = getattr(head.sampler, 'num', sample.per_image)
        return with_best(sample, scores, batch.arguments['batch_data_samples'], most)

    def _rpn_opinion(self, outputs: tuple[list[Tensor], list[Tensor]], sample: AnchorSample) -> BoxOpinion:
        head = self.model.rpn_head
        logits = rows_of(outputs[0], head.cls_out_channels, sample.level_sizes)[sample.index].float()
        deltas = rows_of(outputs[1], 4, sample.level_sizes)[sample.index[sample.positive]].float()
        if head.cls_out_channels == 1:
            logits = torch.cat([logits, torch.zeros_like(logits)], dim=1)
        return BoxOpinion(logits, deltas, sample)

    def _read_roi(self, head: Any, call: Call, weight: float) -> tuple[RoISample, BoxOpinion]:
        rois = call.arguments['rois']
        labels, _, targets, _ = call.result['bbox_targets']
        positive = ((labels >= 0) & (labels < head.num_classes)).nonzero().squeeze(1)
        wanted = targets[positive]
        if head.reg_decoded_bbox:
            wanted = head.bbox_coder.encode(rois[positive, 1:], wanted)
        sample = RoISample(rois, positive, labels[positive], wanted, weight)
        return sample, roi_opinion(head, call.arguments['cls_score'], call.arguments['bbox_pred'], sample)

    def parts_of(self, kinds: Iterable[str]) -> set[str]:
        return {'rpn_head' if kind == 'rpn' else 'roi_head' for kind in kinds}

    def run_head(self, part: str, features: Any, question: Question) -> dict[str, list[Any]]:
        if part == 'rpn_head':
            outputs = self.model.rpn_head(features)
            return {'rpn': [self._rpn_opinion(outputs, sample) for sample in question.samples.get('rpn', [])]}
        if part == 'roi_head':
            return self._run_roi_head(features, question.samples)
        return super().run_head(part, features, question)

    def _run_roi_head(self, features: Sequence[Tensor], samples: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        opinions: dict[str, list[Any]] = {}
        if 'roi' in samples:
            opinions['roi'] = self._run_box_heads(features, samples['roi'])
        if 'masks' in samples:
            masks = run_masks(self.model, features, samples['masks'], self.class_map, extract_in_float32)
            opinions['masks'] = masks
        return opinions

    def _run_box_heads(self, features: Sequence[Tensor], samples: list[RoISample]) -> list[BoxOpinion]:
        roi_head = self.model.roi_head
        cascade = isinstance(roi_head.bbox_head, nn.ModuleList)
        opinions = []
        with ExitStack() as stack:
            for extractor in extractors(roi_head):
                stack.enter_context(shadowed(extractor, 'forward', extract_in_float32))
            for stage, (head, sample) in enumerate(zip(self.box_heads, samples, strict=False)):
                arguments = (stage, features, sample.rois) if cascade else (features, sample.rois)
                results = roi_head._bbox_forward(*arguments)
                opinions.append(roi_opinion(head, results['cls_score'], results['bbox_pred'], sample, self.class_map))
        return opinions

    def probe_samples(self, kinds: Iterable[str]) -> dict[str, list[Any]]:
        samples: dict[str, list[Any]] = {'masks': blank_masks(self.model)} if 'masks' in kinds else {}
        if 'roi' not in kinds:
            return samples
        device = next(self.model.parameters()).device
        rois = torch.tensor([[0.0, 8.0, 8.0, 40.0, 40.0]], device=device)
        nothing = torch.zeros(0, dtype=torch.long, device=device)
        return {**samples, 'roi': [RoISample(rois, nothing, nothing, rois.new_zeros(0, 4))] * len(self.box_heads)}
