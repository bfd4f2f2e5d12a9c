"""One training step in a file of plain data, so that it can be taken again."""

from __future__ import annotations

import importlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.logging import MessageHub, MMLogger
from mmengine.structures import BaseDataElement
from torch import Tensor

from kddense.compat import load_checkpoint
from kddense.files import write_whole

NAME = 'nonfinite.pth'
LARGEST = 256 * 2**20  # bytes of a batch
KIND = 'kind of'
# What a batch is made of besides tensors, arrays and plain values; nothing else is ever built from a file.
STRUCTURES = {
    'InstanceData': 'mmengine.structures',
    'PixelData': 'mmengine.structures',
    'LabelData': 'mmengine.structures',
    'BaseDataElement': 'mmengine.structures',
    'DetDataSample': 'mmdet.structures',
    'SegDataSample': 'mmseg.structures',
    'HorizontalBoxes': 'mmdet.structures.bbox',
    'BitmapMasks': 'mmdet.structures.mask',
    'PolygonMasks': 'mmdet.structures.mask',
}


@dataclass(frozen=True)
class Kept:
    """A step.

    Attributes:
        iteration: Its number; ``None`` outside a run.
        losses: Its losses by name, the student's own included.
        random_state: The streams before it, see :func:`kddense.random_state.get_random_state`.
        batch: What the data loader gave; ``None`` if it was too large.
        seed: The run's.
        max_iters: How many iterations the run was to have.
    """

    iteration: int | None
    losses: Mapping[str, float]
    random_state: dict[str, Any] | None
    batch: Any
    seed: int | None = None
    max_iters: int | None = None


def keep_step(step: Kept) -> str:
    """Write a step beside the log of the current run, if there is one; a failure is told and no more.

    Returns:
        How the sentence about the step goes on: where it is kept, and how to take it again.
    """
    log = MMLogger.get_current_instance().log_file
    if log is None:
        return ''
    file = Path(log).with_name(NAME if get_rank() == 0 else NAME.replace('.', f'_rank{get_rank()}.'))
    try:
        return f'. {_write(step, file)}'
    except Exception as error:  # the run has failed already, and that is what is to be told
        return f'. The step could not be kept in {file}: {error}'


def _write(step: Kept, file: Path) -> str:
    info = MessageHub.get_current_instance().runtime_info
    batch = as_data(step.batch)
    too_large = _size(batch) > LARGEST
    contents = dict(
        iteration=step.iteration,
        losses=dict(step.losses),
        random_state=step.random_state,
        batch=None if too_large else batch,
        seed=info.get('seed'),
        max_iters=info.get('max_iters'),
    )
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    write_whole(file, buffer.getvalue())
    if too_large:
        return f'The losses and the seed of the step are kept in {file}, its batch was larger than 256 MB'
    return (
        f'The step is kept in {file}: kddense replay {file} --config <config> --checkpoint <checkpoint> takes it again'
    )


def read_step(file: str | Path) -> Kept:
    """Read what :func:`keep_step` wrote; no code of the file is run.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is another one.
    """
    contents = load_checkpoint(file)
    try:
        return Kept(**{**contents, 'batch': from_data(contents['batch'])})
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f'{file} keeps no training step: it is not one that kddense wrote ({error})') from error


def as_data(value: Any) -> Any:
    """Copy a batch with nothing in it but tensors, dicts, lists and plain values."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, np.ndarray):
        return {KIND: 'array', 'values': torch.from_numpy(np.array(value))}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, BaseDataElement):
        parts = {'meta': dict(value.metainfo_items()), 'fields': dict(value.items())}
        return {KIND: type(value).__name__, **as_data(parts)}
    name = type(value).__name__
    if name == 'HorizontalBoxes':
        return {KIND: name, 'arguments': [as_data(value.tensor)]}
    if name in ('BitmapMasks', 'PolygonMasks'):
        return {KIND: name, 'arguments': as_data([value.masks, value.height, value.width])}
    if isinstance(value, Mapping):
        return {key: as_data(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return (list if isinstance(value, list) else tuple)(map(as_data, value))
    return value if value is None or type(value) in (bool, int, float, str) else str(value)


def from_data(value: Any) -> Any:
    """Return the batch that :func:`as_data` copied."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(from_data, value))
    if not isinstance(value, dict):
        return value
    if KIND not in value:
        return {key: from_data(item) for key, item in value.items()}
    name = value[KIND]
    if name == 'array':
        return value['values'].numpy()
    structure = getattr(importlib.import_module(STRUCTURES[name]), name)
    if 'arguments' in value:
        return structure(*from_data(value['arguments']))
    element = structure(metainfo=from_data(value['meta']))
    for key, item in from_data(value['fields']).items():
        setattr(element, key, item)
    return element


def _size(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, (list, tuple)) else 0
