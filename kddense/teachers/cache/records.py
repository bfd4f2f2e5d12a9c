"""An answer as plain data and tensors, image by image, and back; nothing that is read is ever run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kddense.exchange import DepthOpinion, MapOpinion, ViewError

from .forms import Form, unpack
from .store import Record

OPINIONS = {kind.__name__: kind for kind in (MapOpinion, DepthOpinion)}  # of all images, whatever the student samples
CONTAINERS = {'tuple': tuple, 'list': list}


@dataclass(frozen=True)
class Kept:
    """What is kept of an answer.

    Attributes:
        records: One for each image.
        values: The tensors that they hold, as they were.
    """

    records: list[Record]
    values: list[Tensor]

    @property
    def bytes(self) -> int:
        """How many there are of one image."""
        return sum(tensor.nbytes for tensor in self.records[0].tensors)


def keep(answer: Mapping[str, Any], images: int, form: Form, model: nn.Module, sigmoid: Callable[[str], bool]) -> Kept:
    """Take an answer apart.

    Args:
        answer: Its taps, opinions and parts, by name.
        images: How many images it is about, N.
        form: How values are kept.
        model: The teacher's: heads in opinions are kept by their path in it.
        sigmoid: Tells whether the classes of a kind of opinion are decided each on its own.

    Raises:
        ViewError: If a value is not about images one by one, or is nothing that can be kept.
    """
    parts = _Apart({id(module): path for path, module in model.named_modules()}, images)
    skeleton = parts.taken(answer, '')
    specs, rows = [], []
    for number, tensor in enumerate(parts.tensors):
        kind = parts.logits.get(number)
        spec, own = form.pack(tensor.detach().cpu(), None if kind is None else sigmoid(kind))
        specs.append({**spec, 'parts': len(own[0])})
        rows.append(own)
    structure = json.dumps(dict(skeleton=skeleton, specs=specs), sort_keys=True)
    records = [Record(structure, [tensor for own in rows for tensor in own[image]]) for image in range(images)]
    return Kept(records, parts.tensors)


def restore(records: Sequence[Record], model: nn.Module, device: torch.device) -> tuple[Any, list[Tensor]]:
    """Put an answer together, of one record for each image of a batch.

    Args:
        records: Of one structure.
        model: The teacher's.
        device: Where to.

    Returns:
        Taps, opinions and parts by name, and all tensors in them.
    """
    structure = json.loads(records[0].structure)
    pin = device.type == 'cuda'
    tensors, start = [], 0
    for spec in structure['specs']:
        rows = [record.tensors[start : start + spec['parts']] for record in records]
        tensors.append(unpack(spec, rows, pin).to(device, non_blocking=True))
        start += spec['parts']
    return _together(structure['skeleton'], tensors, model), tensors


class _Apart:
    """Turns nested values into plain data, and collects their tensors; one that stands in two places is kept once."""

    def __init__(self, paths: Mapping[int, str], images: int) -> None:
        self.paths = paths
        self.images = images
        self.tensors: list[Tensor] = []
        self.logits: dict[int, str] = {}
        self._known: dict[tuple[Any, ...], int] = {}

    def taken(self, value: Any, place: str) -> Any:
        if isinstance(value, Tensor):
            return {'tensor': self._number(value, place)}
        if type(value) in (tuple, list):
            return {type(value).__name__: [self.taken(item, place) for item in value]}
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {'dict': [[key, self.taken(item, f'{place}{key}/')] for key, item in value.items()]}
        if type(value).__name__ in OPINIONS and is_dataclass(value):
            return self._taken_opinion(value, place)
        if isinstance(value, nn.Module) and id(value) in self.paths:
            return {'part': self.paths[id(value)]}
        if value is None or isinstance(value, (bool, int, float, str)):
            return {'value': value}
        raise ViewError(f"'{place.strip('/')}' holds a {type(value).__name__}, which cannot be kept")

    def _taken_opinion(self, opinion: Any, place: str) -> dict[str, Any]:
        values = {one.name: self.taken(getattr(opinion, one.name), place) for one in fields(opinion)}
        self.logits[values['logits']['tensor']] = place.split('/')[1]  # of 'opinions/<kind>/'
        return {'opinion': type(opinion).__name__, 'fields': values}

    def _number(self, tensor: Tensor, place: str) -> int:
        if not tensor.dim() or len(tensor) != self.images:
            raise ViewError(f"'{place.strip('/')}' is not about images one by one, and cannot be kept")
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and key in self._known:
            return self._known[key]
        self._known[key] = len(self.tensors)
        self.tensors.append(tensor)
        return self._known[key]


def _together(skeleton: Mapping[str, Any], tensors: Sequence[Tensor], model: nn.Module) -> Any:
    ((kind, inside), *more) = skeleton.items()
    if kind == 'opinion' or more:
        values = {name: _together(one, tensors, model) for name, one in skeleton['fields'].items()}
        return OPINIONS[skeleton['opinion']](**values)
    if kind == 'tensor':
        return tensors[inside]
    if kind == 'dict':
        return {key: _together(one, tensors, model) for key, one in inside}
    if kind == 'part':
        return model.get_submodule(inside)
    if kind in CONTAINERS:
        return CONTAINERS[kind](_together(one, tensors, model) for one in inside)
    return inside
