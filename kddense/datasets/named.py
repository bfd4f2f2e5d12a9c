"""One of several data sets: its images say which it is, and which classes its labels tell of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from kddense.configs import class_names
from kddense.errors import ConfigError
from kddense.registry import DATASETS, Plain, name_of
from kddense.taps import nearest

from ._wrapped import WrappedDataset

DATASET = 'dataset'  # in the metainfo of a data sample: the name of its data set
LABELLED_CLASSES = 'labelled_classes'  # there too: which of the student's classes its labels tell of, where not all


@DATASETS.register_module()
class NamedDataset(WrappedDataset):
    """Says of each image which data set it is of, so that teachers can have data sets of their own.

    With ``classes``, several data sets of detectors with other labels each make one: the labels of each are numbered anew,
    and detectors that train in a :class:`kddense.Distiller` learn of an image's background only that it is none of the
    classes that its data set labels.

    Args:
        dataset: Config of the data set, with its own ``metainfo=dict(classes=…)``.
        called: Its name, which ``datasets`` of a teacher may hold.
        classes: Names of the student's classes, in their order; those of the data set by default.

    Raises:
        ValueError: If the data set has a class that is not one of ``classes``.

    Example:
        >>> red = dict(type='CocoDataset', metainfo=dict(classes=('RBC',)))  # ... and the rest of its config
        >>> train_dataloader = dict(
        ...     dataset=dict(type='ConcatDataset', datasets=[
        ...         dict(type='kddense.NamedDataset', called='red', classes=('RBC', 'WBC'), dataset=red)]))
    """

    def __init__(self, dataset: Mapping[str, Any], called: str, classes: Sequence[str] | None = None) -> None:
        self.called = called
        super().__init__(dataset)
        self.classes = None if classes is None else tuple(classes)
        self._numbers = self._numbers_of(class_names(self.dataset.metainfo.get('classes')))
        self._is_partial = self._numbers is not None and len(self._numbers) < len(self.classes or ())
        self.full_init()

    def _numbers_of(self, own: Sequence[str] | None) -> torch.Tensor | None:
        """Return for each class of the data set which of the student's it is; ``None`` if they are the same."""
        if self.classes is None or own is None or tuple(own) == self.classes:
            return None
        unknown = [one for one in own if one not in self.classes]
        if unknown:
            raise ConfigError(
                f"must hold all classes of the data set, '{unknown[0]}' is none of {', '.join(self.classes)}"
                f'{nearest(unknown[0], self.classes)}',
                'classes',
                self.config_key,
            )
        return torch.tensor([self.classes.index(one) for one in own])

    @property
    def metainfo(self) -> dict[str, Any]:
        """That of the data set; with ``classes`` these alone, as several data sets that stand together must agree."""
        return dict(self.dataset.metainfo) if self.classes is None else dict(classes=self.classes)

    def __getitem__(self, index: int) -> Any:
        """Return an image as the data set does, with its name and the student's labels.

        Raises:
            ValueError: If the data set's pipeline does not pack its results.
        """
        results = self.packed(index)
        sample = results['data_samples']
        sample.set_metainfo({DATASET: self.called})
        if self._numbers is None:
            return results
        if 'gt_sem_seg' in sample:
            raise ConfigError(
                'numbers the labels of boxes anew, not of pixels: leave it out, and give the data set a `label_map` '
                'in its metainfo',
                'classes',
                self.config_key,
            )
        if self._is_partial:
            sample.set_metainfo({LABELLED_CLASSES: tuple(sorted(self._numbers.tolist()))})
        for key in ('gt_instances', 'ignored_instances'):
            if 'labels' in sample.get(key, ()):
                sample.get(key).labels = self._numbers[sample.get(key).labels]
        return results

    @staticmethod
    def plain(config: Mapping[str, Any], place: str) -> Plain:
        """Return the data set without this wrapper; see :class:`kddense.registry.Plain`."""
        return Plain(
            (config['dataset'],), 'labels keep the numbers of their own data set' if config.get('classes') else ''
        )


def dataset_names(config: Any) -> Iterator[str]:
    """Yield the names of all named data sets in a config, or in a part of one, however deep they stand."""
    if isinstance(config, Mapping):
        if 'called' in config and name_of(config.get('type', '')) == NamedDataset.__name__:
            yield config['called']
        config = list(config.values())
    if isinstance(config, (list, tuple)):
        for one in config:
            yield from dataset_names(one)
