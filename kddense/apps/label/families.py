"""What a detector, a segmentor and a depth estimator write of an image, and how their labels are judged."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from kddense.errors import ConfigError
from kddense.views import build_view, is_a

from .thresholds import LEVELS, least_level, least_score, matched

IGNORED = 255  # in maps of labels
DEEPEST = 65535  # the greatest level of 16 bits
LEVELS_PER_METRE = 1000
QUERY_HEADS = ('MaskFormerHead', 'SideAdapterCLIPHead')  # Mask2Former's is derived from the first
Thresholds = Mapping[str, float | None]  # by class; None leaves it out
Shares = Callable[[Tensor], Tensor]  # from what a segmentor predicts of all classes, (C, H, W), to scores of 0..1
SOFTMAX: Shares = functools.partial(torch.softmax, dim=0)
CLAMPED: Shares = functools.partial(torch.clamp, min=0, max=1)


class Family:
    """What one model family writes.

    Args:
        classes: Names of the classes; none of depth.

    Attributes:
        folder: Where the file of an image lies that is written last, in the folder of all.
        suffix: Its ending, which takes the place of the image's.
    """

    folder: str
    suffix: str
    has_classes = True

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)

    def file(self, name: str, folder: str | None = None) -> str:
        """Return the path of an image's file."""
        return f'{folder or self.folder}/{name.rpartition(".")[0]}{self.suffix}'

    def files(self, sample: Any, name: str, thresholds: Thresholds) -> dict[str, bytes]:
        """Return the files of an image by path; the last is the one that says it is done."""
        raise NotImplementedError

    def choose(self, samples: Iterable[tuple[Any, Any]], precision: float) -> dict[str, float | None]:
        """Return the least score of each class from which on a share of the labels is right.

        Args:
            samples: Predictions with what is true of them, as :meth:`truth` gives it.
            precision: The share.
        """
        raise NotImplementedError

    def truth(self, dataset: Any, index: int) -> Any:
        """Return what is true of an image of a data set."""
        raise NotImplementedError

    def gather(self, folder: Path, names: Sequence[str], thresholds: Thresholds) -> dict[str, bytes]:
        """Return what is written once all images are done."""
        return {}

    def told(self) -> str:
        """Return what is to be said of the labels that were written by this process, if anything."""
        return ''


class Boxes(Family):
    """Boxes, and masks if there are: a record for each image, and one file in COCO's format."""

    folder, suffix = 'records', '.json'

    def files(self, sample: Any, name: str, thresholds: Thresholds) -> dict[str, bytes]:
        found = sample.pred_instances.cpu().numpy()
        height, width = sample.ori_shape[:2]
        record = dict(
            file_name=name,
            height=int(height),
            width=int(width),
            boxes=found.bboxes.tolist(),
            scores=found.scores.tolist(),
            labels=found.labels.tolist(),
        )
        if 'masks' in found:
            record['masks'] = [_encoded(mask) for mask in found.masks]
        return {self.file(name): json.dumps(record).encode()}

    def truth(self, dataset: Any, index: int) -> Any:
        return dataset.get_data_info(index)['instances']

    def choose(self, samples: Iterable[tuple[Any, Any]], precision: float) -> dict[str, float | None]:
        scores: list[list[np.ndarray]] = [[] for _ in self.classes]
        right: list[list[np.ndarray]] = [[] for _ in self.classes]
        for sample, instances in samples:
            found = sample.pred_instances.cpu().numpy()
            for label in range(len(self.classes)):
                own = found[found.labels == label]
                true = [one for one in instances if one['bbox_label'] == label]
                outcome = _outcome(own, true)
                scores[label].append(own.scores[outcome >= 0])
                right[label].append(outcome[outcome >= 0] == 1)
        return {
            name: least_score(np.concatenate(scores[label]), np.concatenate(right[label]), precision)
            for label, name in enumerate(self.classes)
        }

    def gather(self, folder: Path, names: Sequence[str], thresholds: Thresholds) -> dict[str, bytes]:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, name in enumerate(names, 1):
            record = json.loads((folder / self.file(name)).read_text())
            images.append(dict(id=number, **{key: record[key] for key in ('file_name', 'height', 'width')}))
            for one in self._kept(record, thresholds):
                annotations.append(dict(id=len(annotations) + 1, image_id=number, **one))
        categories = [dict(id=label + 1, name=name) for label, name in enumerate(self.classes)]
        info = dict(description='pseudo-labels of a model; `score` is its own')
        contents = dict(info=info, images=images, annotations=annotations, categories=categories)
        return {'annotations.json': json.dumps(contents).encode()}

    def _kept(self, record: Mapping[str, Any], thresholds: Thresholds) -> Iterator[dict[str, Any]]:
        for index, (box, score, label) in enumerate(
            zip(record['boxes'], record['scores'], record['labels'], strict=True)
        ):
            least = thresholds[self.classes[label]]
            if least is None or score < least:
                continue
            x, y, width, height = box[0], box[1], box[2] - box[0], box[3] - box[1]
            kept = dict(category_id=label + 1, bbox=[x, y, width, height], area=width * height, iscrowd=0, score=score)
            yield dict(kept, segmentation=record['masks'][index]) if 'masks' in record else kept


class Pixels(Family):
    """A class for every pixel, 255 where none is sure enough, and the score of each in 8 bits.

    Args:
        classes: Their names.
        shares: Makes scores of 0..1 of the ``seg_logits`` of several channels; a softmax by default.
    """

    folder, suffix = 'labels', '.png'

    def __init__(self, classes: Sequence[str], shares: Shares = SOFTMAX) -> None:
        if len(classes) > IGNORED:
            raise ConfigError(
                f'names {len(classes)} classes: label maps have 8 bits and hold {IGNORED}', 'test_dataloader.dataset'
            )
        super().__init__(classes)
        self.shares = shares

    def files(self, sample: Any, name: str, thresholds: Thresholds) -> dict[str, bytes]:
        labels, levels = self._classified(sample)
        least = np.array([_level_of(thresholds[key]) for key in self.classes])
        kept = np.where(levels >= least[labels], labels, IGNORED)
        return {
            self.file(name, 'scores'): _png(levels.astype(np.uint8)),
            self.file(name): _png(kept.astype(np.uint8)),
        }

    def truth(self, dataset: Any, index: int) -> Any:
        sample = dataset[index]['data_samples']
        if 'gt_sem_seg' not in sample:
            raise ConfigError(
                'loads no labels, by which least scores are chosen: add LoadAnnotations, or give --threshold',
                'val_dataloader.dataset.pipeline',
            )
        return sample.gt_sem_seg.data[0].cpu().numpy()

    def choose(self, samples: Iterable[tuple[Any, Any]], precision: float) -> dict[str, float | None]:
        counts = np.zeros((2, len(self.classes), LEVELS), np.int64)
        for sample, true in samples:
            labels, levels = self._classified(sample)
            if labels.shape != true.shape:
                raise ConfigError(
                    f': its labels are of {true.shape} and the predictions of {labels.shape}: load annotations after Resize',
                    'val_dataloader',
                )
            for which, pixels in enumerate((true != IGNORED, true == labels)):
                np.add.at(counts[which], (labels[pixels], levels[pixels]), 1)
        found = [least_level(total, right, precision) for total, right in zip(*counts, strict=True)]
        return {
            name: None if level is None else level / LEVELS for name, level in zip(self.classes, found, strict=True)
        }

    def _classified(self, sample: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the class of each pixel, and the level of its score, ``(H, W)`` each."""
        said = sample.seg_logits.data.float()
        labels = sample.pred_sem_seg.data[0].long()
        # Of one channel mmseg keeps what its sigmoid made of the logits, under their name.
        shares = torch.cat((1 - said, said)) if len(said) == 1 else self.shares(said)
        score = shares.gather(0, labels[None])[0]
        return labels.cpu().numpy(), (score * LEVELS).long().clamp(max=LEVELS - 1).cpu().numpy()


class Depths(Family):
    """Depth of every pixel in 16 bits, 0 where it is not known or beyond the greatest level.

    Args:
        levels: For each metre, or whatever the unit of the model's depth is; by default they are millimetres.
    """

    folder, suffix = 'depth', '.png'
    has_classes = False

    def __init__(self, levels: int = LEVELS_PER_METRE) -> None:
        super().__init__(())
        self.levels = levels
        self._beyond = 0

    def files(self, sample: Any, name: str, thresholds: Thresholds) -> dict[str, bytes]:
        depth = sample.pred_depth_map.data.cpu().numpy().reshape(sample.pred_depth_map.data.shape[-2:])
        levels = np.where(np.isfinite(depth) & (depth > 0), depth * self.levels, 0).round()
        self._beyond += int((levels > DEEPEST).sum())
        return {self.file(name): _png(np.where(levels > DEEPEST, 0, levels).astype(np.uint16))}

    def told(self) -> str:
        if not self._beyond:
            return ''
        return (
            f'{self._beyond} pixels lie beyond {DEEPEST / self.levels:g} m, the greatest depth at {self.levels} levels per '
            'metre, and got none: fewer --depth-levels reach further'
        )


def family_of(model: nn.Module, classes: Sequence[str] | None, depth_levels: int = LEVELS_PER_METRE) -> Family:
    """Return what the family of a model writes.

    Args:
        model: The model.
        classes: Names of its classes, ``None`` if they are not known.
        depth_levels: See :class:`Depths`.

    Raises:
        ConfigError: If it is of none, or its classes are not known.
    """
    kinds: tuple[tuple[str, type[Family]], ...] = (
        ('DepthEstimator', Depths),
        ('BaseSegmentor', Pixels),
        ('BaseDetector', Boxes),
    )
    kind = next((kind for name, kind in kinds if is_a(model, name)), None)
    if kind is None:
        raise ConfigError(
            f' is a {type(model).__name__}: only detectors, segmentors and depth estimators label', 'model'
        )
    if kind is Depths:
        return Depths(depth_levels)
    if classes is None:
        raise ConfigError(
            'names no classes: labels need names; set metainfo=dict(classes=…) there', 'test_dataloader.dataset'
        )
    return Pixels(classes, _shares_of(model)) if kind is Pixels else kind(classes)


def _shares_of(segmentor: nn.Module) -> Shares:
    """Return what makes scores of 0..1 of the ``seg_logits`` of a segmentor, of several channels."""
    head = getattr(segmentor, 'decode_head', None)
    if any(is_a(head, name) for name in QUERY_HEADS):  # they sum softmax times sigmoid over their queries
        return CLAMPED
    return torch.sigmoid if build_view(segmentor, 'model').is_sigmoid('pixels') else SOFTMAX


def _outcome(found: Any, true: Sequence[Mapping[str, Any]]) -> np.ndarray:
    from mmdet.evaluation.functional import bbox_overlaps

    boxes = np.array([one['bbox'] for one in true], np.float32).reshape(-1, 4)
    ignored = np.array([bool(one.get('ignore_flag')) for one in true], bool)
    overlaps = bbox_overlaps(found.bboxes, boxes)
    overlaps[:, ignored] = bbox_overlaps(found.bboxes, boxes[ignored], mode='iof')
    return matched(overlaps, found.scores, ignored)


def _level_of(threshold: float | None) -> int:
    """Return the least level of a class; one beyond all levels leaves it out."""
    return LEVELS if threshold is None else min(round(threshold * LEVELS), LEVELS - 1)


def _encoded(mask: np.ndarray) -> dict[str, Any]:
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return dict(size=[int(side) for side in encoded['size']], counts=encoded['counts'].decode())


def _png(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format='PNG')
    return buffer.getvalue()
