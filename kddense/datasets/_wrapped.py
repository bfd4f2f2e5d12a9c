"""The parent of data sets that stand around another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.registry import DATASETS as ALL_DATASETS
from torch.utils.data import Dataset

from kddense.errors import ConfigError, within


class WrappedDataset(Dataset):
    """A data set around another one, of which it is as long.

    Args:
        dataset: Config of the other.
        **changes: Its keys that are set whatever the config says.

    Attributes:
        dataset: The other.
    """

    config_key = 'train_dataloader.dataset'

    def __init__(self, dataset: Mapping[str, Any], **changes: Any) -> None:
        with within('dataset', dataset):
            self.dataset: Any = ALL_DATASETS.build({**dataset, **changes})

    def full_init(self) -> None:
        """Read the annotations, if that has not been done."""
        if hasattr(self.dataset, 'full_init'):
            self.dataset.full_init()

    @property
    def metainfo(self) -> Any:
        """That of the data set: its classes."""
        return self.dataset.metainfo

    @property
    def pipeline(self) -> Any:
        """The transforms, which hooks of mmdet change in the middle of a run."""
        return self.dataset.pipeline

    @pipeline.setter
    def pipeline(self, pipeline: Any) -> None:
        self.dataset.pipeline = pipeline

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        """Look up in the data set what this wrapper lacks, ``get_data_info`` say."""
        if name.startswith('__') or 'dataset' not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def packed(self, index: int) -> dict[str, Any]:
        """Return an image of the other data set.

        Raises:
            ConfigError: If its pipeline does not pack what it gives.
        """
        return self.as_packed(self.dataset[index])

    def as_packed(self, results: Any) -> dict[str, Any]:
        """Return what the other data set gave for an image, see :meth:`packed`."""
        if not isinstance(results, Mapping) or 'data_samples' not in results:
            raise ConfigError(
                'gives no data samples: its last transform must pack them, and a data set that mixes images '
                f'(MultiImageMixDataset) stands inside of a kddense.{type(self).__name__}',
                'dataset.pipeline',
                self.config_key,
            )
        return dict(results)
