"""Labels that a model gave, each with its score."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from kddense.errors import ConfigError
from kddense.registry import DATASETS, Plain

from ._wrapped import WrappedDataset

LEVELS = 1 << 15  # of scores, on the way through the pipeline
CLASSES = 1 << 16


@DATASETS.register_module()
class PseudoLabels(WrappedDataset):
    """A data set of boxes with scores, as :doc:`kddense label <label>` writes them: each box keeps its score.

    A detector that trains in a :class:`kddense.Distiller` then weighs what it learns of a box's class by the score. The
    scores are ``gt_instances.scores`` of the data samples; a box without one counts in full.

    Args:
        dataset: Config of a ``CocoDataset``, or of a class derived from it, whose annotations have a ``score`` from 0 to 1.

    Raises:
        ValueError: If it is of another kind, or a score is no number from 0 to 1.

    Example:
        >>> labels = dict(type='CocoDataset', ann_file='frames_labels/annotations.json', data_prefix=dict(img='frames/'))
        >>> train_dataloader = dict(dataset=dict(type='kddense.PseudoLabels', dataset=labels))
    """

    def __init__(self, dataset: Mapping[str, Any]) -> None:
        super().__init__(dataset, lazy_init=True)
        if not hasattr(self.dataset, 'COCOAPI'):
            raise ConfigError(
                f'must be a CocoDataset, whose annotations have scores, a {type(self.dataset).__name__} has none',
                'dataset',
                self.config_key,
            )
        self.dataset.parse_data_info = self._with_scores(self.dataset.parse_data_info)
        self.full_init()

    def _with_scores(self, parse: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
        """Return what parses the annotations of an image and keeps their scores.

        Transforms that drop, repeat or mix boxes know of labels and of no score: it travels in the label.
        """

        def parsed(raw: dict[str, Any]) -> Any:
            info = parse({**raw, 'raw_ann_info': []})
            info['instances'] = [
                {**instance, 'bbox_label': instance['bbox_label'] + CLASSES * self._missing(one)}
                for one in raw['raw_ann_info']
                for instance in parse({**raw, 'raw_ann_info': [one]})[
                    'instances'
                ]  # none, if the data set leaves it out
            ]
            return info

        return parsed

    def _missing(self, annotation: Mapping[str, Any]) -> int:
        """Return what a score lacks to 1, in levels."""
        score = annotation.get('score', 1.0)
        if not isinstance(score, (int, float)) or not 0 <= score <= 1 or math.isnan(score):
            raise ConfigError(
                f'has a score that is no number from 0 to 1 in annotation {annotation.get("id")}: {score!r}',
                'dataset.ann_file',
                self.config_key,
            )
        return round((1 - score) * (LEVELS - 1))

    def __getitem__(self, index: int) -> Any:
        """Return an image as the data set does, with the scores of its boxes.

        Raises:
            ValueError: If the data set's pipeline does not pack its results.
        """
        results = self.packed(index)
        for key in ('gt_instances', 'ignored_instances'):
            boxes = results['data_samples'].get(key, ())
            if 'labels' in boxes:
                missing = torch.div(boxes.labels, CLASSES, rounding_mode='floor')
                boxes.labels, boxes.scores = boxes.labels % CLASSES, 1 - missing / (LEVELS - 1)
        return results

    def get_cat_ids(self, index: int) -> list[int]:
        """Return the classes of an image's boxes, as data sets that balance classes ask for them."""
        return [label % CLASSES for label in self.dataset.get_cat_ids(index)]

    @staticmethod
    def plain(config: Mapping[str, Any], place: str) -> Plain:
        """Return the data set without this wrapper; see :class:`kddense.registry.Plain`."""
        return Plain((config['dataset'],), 'every box counts in full')
