"""Tian, Krishnan, Isola, Contrastive Representation Distillation, ICLR 2020."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from mmengine.dist import all_reduce
from mmengine.logging import print_log
from torch import Tensor, nn

from kddense.configs import training_set_boxes, training_set_size
from kddense.exchange import Answer, ViewError
from kddense.losses import info_nce, noise_contrastive_estimation
from kddense.losses._checks import check_choice, check_positive
from kddense.losses._vectors import inner_products, unit_vectors
from kddense.models import MemoryBank
from kddense.registry import MODELS
from kddense.views import ModelView

from ._box_features import finest_stride, level_means
from .base import share_of_process
from .places import PlaceObjective


@MODELS.register_module()
class CRDObjective(PlaceObjective):
    """CRD: the two networks' vectors of one image or box belong together, those of others do not.

    Each side's features are averaged, over the image or over each ground-truth box, brought to ``dim`` channels by a linear
    layer of its own that learns, and to length 1. With a memory, two banks remember the vectors of both networks over
    the data set: the student's vectors are told from the teacher's memory, and the teacher's from the student's, see
    :func:`kddense.losses.noise_contrastive_estimation`; the sum of both is the loss. Without one, the student's are
    told from the teacher's of the batch, see :func:`kddense.losses.info_nce`.

    The paper knows classifiers: an image is a sample with a class. Here an image has no class, and a box has one. A box
    is known by its image and its number there: the pipeline must keep boxes in their order and drop none (flips and
    resizing do, crops do not).

    What differs from the released code: one draw of others serves all samples of a batch, less those that are no
    negatives of each; rows that were never written are not drawn, and a sample that is new to the memory is compared
    with the other network's vector of the step.

    Args:
        on: ``'image'`` or ``'box'``; by default boxes for detectors, and images for others.
        form: ``'memory'``, or ``'batch'`` for the form without one.
        positives: ``'instance'``: the same image or box. ``'class'``: of boxes, any that the memory knows of its class.
        negatives: ``'class'``: of boxes, those of other classes, as in the paper. ``'instance'``: all others.
        others: The paper's K, how many vectors are drawn from a bank.
        dim: The length of a vector.
        temperature: The paper's τ.
        momentum: Of the banks.
        size: The number of rows of a bank; by default the number of images, or of boxes, of the training set.
        tap: See :class:`PlaceObjective`.
        levels: See :class:`MapObjective`; by default the deepest for images, and all for boxes, of which each takes
            the one that suits its size.
        weight: The paper's β.
        **kwargs: See :class:`FeatureObjective`.
    """

    def __init__(
        self,
        on: Literal['image', 'box'] | None = None,
        form: Literal['memory', 'batch'] = 'memory',
        positives: Literal['instance', 'class'] = 'instance',
        negatives: Literal['class', 'instance'] = 'class',
        others: int = 16384,
        dim: int = 128,
        temperature: float = 0.07,
        momentum: float = 0.5,
        size: int | None = None,
        weight: float | str | Mapping[str, Any] = 0.8,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight=weight, **kwargs)
        if on is not None:
            check_choice('on', on, ('image', 'box'))
        check_choice('form', form, ('memory', 'batch'))
        for name, value in (('positives', positives), ('negatives', negatives)):
            check_choice(name, value, ('instance', 'class'))
        check_positive('temperature', temperature)
        if others < 1:
            raise ValueError(f'others must be at least 1, got {others}')
        self.on: str | None = on
        self.form, self.positives, self.negatives = form, positives, negatives
        self.others, self.dim, self.temperature = others, dim, temperature
        banks = [MemoryBank(dim, size, momentum, seed=seed) for seed in range(2)] if form == 'memory' else []
        self.banks: Any = nn.ModuleList(banks)  # of the student, of the teacher
        self.embeddings = nn.ModuleList([nn.ModuleList(), nn.ModuleList()])
        self.log_constants: Tensor
        self.register_buffer('log_constants', torch.full((2,), torch.nan))

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        detects = not {'pixels', 'auxiliary'} & student.kinds and hasattr(student.model, 'bbox_head') | hasattr(
            student.model, 'roi_head'
        )
        self.on = self.on or ('box' if detects else 'image')
        if self.on == 'box' and not detects:
            raise ViewError(
                f"on='box' needs boxes in the ground truth, and {type(student.model).__name__} is no detector"
            )
        if self.on == 'image' and self.levels is None:
            self.levels = self.teacher_levels = [-1]
        super().bind(student, teacher)

    def bind_pair(self, own: Tensor, other: Tensor) -> None:
        super().bind_pair(own, other)
        for layers, maps in zip(self.embeddings, (own, other), strict=True):
            if maps.dim() != 4:
                raise ValueError(f'CRD averages maps, got {maps.dim()} dimensions; tap maps on both sides')
            assert isinstance(layers, nn.ModuleList)
            layers.append(nn.Linear(maps.shape[1], self.dim))

    def check_run(self, config: str | None, checkpoint: str | None) -> None:
        if not self.banks or len(self.banks[0].vectors):
            return
        size = training_set_size(config) if self.on == 'image' else training_set_boxes(config)
        print_log(
            f'CRD remembers {size or 0} vectors of {self.dim} numbers in each of two banks: '
            f'{8 * self.dim * (size or 0) / 2**20:.0f} MB',
            logger='current',
        )
        for bank in self.banks:
            bank.allocate(size)

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        ids, labels, boxes = self._samples(seen)
        sides = [
            [self.map_of(one) for one in self.chosen(self.items(answer, side), side)]
            for answer, side in ((seen, 'student'), (taught, 'teacher'))
        ]
        assert seen.batch is not None
        width = seen.batch.inputs.shape[-1]
        student, teacher = (
            self._embed(layers, maps, boxes, width) for layers, maps in zip(self.embeddings, sides, strict=True)
        )
        share = share_of_process(len(ids), student)
        if self.form == 'batch':
            return {'loss': share * info_nce(student, teacher, self.temperature, self._same(labels, labels))}
        return {'loss': share * self._with_memory(ids, labels, student, teacher)}

    def _samples(self, seen: Answer) -> tuple[list[str], Tensor, Tensor | None]:
        """Return ids and classes of the samples, and of boxes ``(image, x1, y1, x2, y2)``."""
        assert seen.batch is not None
        samples, device = seen.batch.data_samples, seen.batch.inputs.device
        images = [_id_of(sample) for sample in samples]
        if self.on == 'image':
            return images, torch.full((len(images),), -1, device=device), None
        ids, labels, boxes = [], [], []
        for index, (image, sample) in enumerate(zip(images, samples, strict=True)):
            own = sample.gt_instances.bboxes
            own = getattr(own, 'tensor', own)
            ids += [f'{image}/{number}' for number in range(len(own))]
            labels.append(sample.gt_instances.labels)
            boxes.append(torch.cat([own.new_full((len(own), 1), index), own], dim=1))
        return ids, torch.cat(labels), torch.cat(boxes).float()

    def _embed(self, layers: Any, maps: list[Tensor], boxes: Tensor | None, width: int) -> Tensor:
        if boxes is None:
            return unit_vectors(layers[0](maps[0].mean((2, 3))).float())
        means, order = level_means(maps, boxes, width, finest_stride(maps, width))
        vectors = torch.cat([layer(one) for layer, one in zip(layers, means, strict=True)])
        return unit_vectors(vectors.float()[order])

    def _with_memory(self, ids: list[str], labels: Tensor, student: Tensor, teacher: Tensor) -> Tensor:
        losses = []
        known = len(self.banks[0].ids)
        rows = [bank.index(ids) for bank in self.banks]
        for direction, (anchors, counterparts) in enumerate(((student, teacher), (teacher, student))):
            bank, at = self.banks[1 - direction], rows[1 - direction]
            losses.append(self._contrast(direction, anchors, counterparts.detach(), bank, at, labels, known))
        for bank, vectors in zip(self.banks, (student, teacher), strict=True):
            bank.update(ids, vectors, labels)
        return sum(losses[1:], losses[0])

    def _contrast(
        self, direction: int, anchors: Tensor, counterparts: Tensor, bank: Any, rows: Tensor, labels: Tensor, known: int
    ) -> Tensor:
        drawn = torch.randint(known, (self.others,)) if known > self.others else torch.arange(known)
        drawn = drawn.to(rows.device)
        mask = drawn != rows[:, None]
        excluded = self._same(labels, bank.labels[drawn])
        mask = mask if excluded is None else mask & ~excluded
        partners = torch.where((rows < known)[:, None], bank.vectors[rows], counterparts)
        if self.positives == 'class':
            partners = self._of_class(partners, bank, labels, known)
        positive = (anchors * partners).sum(1)
        negative = inner_products(anchors, bank.vectors[drawn])
        self._set_constant(direction, positive.detach(), negative.detach()[mask], len(bank.vectors))
        constant = self.log_constants[direction].nan_to_num()
        return noise_contrastive_estimation(positive, negative, constant, len(bank.vectors), self.temperature, mask)

    def _same(self, labels: Tensor, others: Tensor) -> Tensor | None:
        """Return which pairs are of one class and therefore no negatives, ``(N, M)``."""
        if self.negatives == 'instance' or self.on == 'image':
            return None
        return labels[:, None] == others

    def _of_class(self, partners: Tensor, bank: Any, labels: Tensor, known: int) -> Tensor:
        chosen = []
        for partner, label in zip(partners, labels, strict=True):
            same = (bank.labels[:known] == label).nonzero().squeeze(1)
            chosen.append(bank.vectors[same[torch.randint(len(same), ())]] if len(same) else partner)
        return torch.stack(chosen) if chosen else partners

    def _set_constant(self, direction: int, positive: Tensor, negative: Tensor, total: int) -> None:
        """Set Z once, of the first batch that has others: the mean of exp(s / τ), times the number of rows."""
        if not self.log_constants[direction].isnan():
            return
        highest = 1 / self.temperature  # of a similarity of 1
        powers = (torch.cat([positive, negative]) / self.temperature - highest).exp().sum()
        sums = torch.stack([powers, powers.new_tensor(len(positive) + len(negative)), powers.new_tensor(len(negative))])
        all_reduce(sums)
        if sums[2] > 0:
            self.log_constants[direction] = (sums[0] / sums[1]).log() + highest + math.log(total)


def _id_of(sample: Any) -> str:
    for name in ('img_path', 'img_id'):
        if name in sample.metainfo:
            return str(sample.metainfo[name])
    raise ValueError(
        "a memory needs to know images again: let the pipeline's last transform keep 'img_path' or 'img_id' (meta_keys)"
    )
