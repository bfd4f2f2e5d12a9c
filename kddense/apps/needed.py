"""Packages that the data of a config need and that no extra of kddense brings."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from kddense.registry import name_of

PARTS = ('train_dataloader', 'val_dataloader', 'val_evaluator', 'test_dataloader', 'test_evaluator')
PANOPTIC = {'CocoPanopticDataset', 'LoadPanopticAnnotations', 'CocoPanopticMetric'}  # of mmdet


def check_packages(config: Mapping[str, Any]) -> None:
    """Raise an ImportError that says what to install, if data of a whole config need a package that is absent.

    mmdet tells of it too, but not before teachers are loaded and the model is built.
    """
    for part in PARTS:
        if _types_in(config.get(part)) & PANOPTIC and importlib.util.find_spec('panopticapi') is None:
            raise ImportError(
                f"{part} is of COCO's panoptic data, which need panopticapi, not installed here: pip install "
                "'git+https://github.com/cocodataset/panopticapi.git'"
            )


def _types_in(config: Any) -> set[str]:
    if isinstance(config, (list, tuple)):
        return set().union(*map(_types_in, config))
    if not isinstance(config, Mapping):
        return set()
    own = {name_of(config['type'])} if config.get('type') else set()
    return own.union(*map(_types_in, config.values()))
