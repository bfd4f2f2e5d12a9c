"""Reading the weights of a teacher out of a file, whatever wrapped them."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from kddense.compat import load_checkpoint
from kddense.configs import class_names
from kddense.taps import TapError, nearest

# Where files keep weights, and what wrappers put before every key: DDP, torch.compile, mmrazor, other distillers.
CONTAINERS = ('state_dict', 'model', 'state_dict_ema', 'model_ema', 'ema_state_dict')
PREFIXES = ('module.', '_orig_mod.', 'architecture.', 'student.', 'model.')


def load_weights(
    model: nn.Module,
    checkpoint: str,
    trust_checkpoint: bool = False,
    name: str = 'teacher',
    described_by: str = 'config',
    heads: Sequence[str] = (),
) -> tuple[str, ...] | None:
    """Load a checkpoint into a model, every weight of it: :func:`read_checkpoint` and :func:`take_weights`."""
    contents = read_checkpoint(checkpoint, trust_checkpoint, name)
    return take_weights(model, contents, checkpoint, name, described_by, heads)


def read_checkpoint(checkpoint: str, trust_checkpoint: bool = False, name: str = 'teacher') -> dict[str, Any]:
    """Read a checkpoint.

    Args:
        checkpoint: Path or URL.
        trust_checkpoint: Load a checkpoint that holds pickled code.
        name: The config key that messages name.

    Raises:
        ValueError: If it cannot be read as data.
        OSError: If it cannot be read.
    """
    try:
        return load_checkpoint(checkpoint, trust_checkpoint=trust_checkpoint)
    except FileNotFoundError as error:
        file = Path(checkpoint).expanduser()
        beside = [path.name for path in file.parent.glob(f'*{file.suffix}')]
        raise FileNotFoundError(f'{name}.checkpoint: {error}{nearest(file.name, beside)}') from error
    except (ValueError, OSError) as error:
        raise type(error)(f'{name}.checkpoint: {error}') from error


def take_weights(
    model: nn.Module,
    contents: Mapping[str, Any],
    checkpoint: str,
    name: str = 'teacher',
    described_by: str = 'config',
    heads: Sequence[str] = (),
) -> tuple[str, ...] | None:
    """Put the weights of a checkpoint into a model, every one of them.

    Args:
        model: The model to fill.
        contents: A full checkpoint of mmengine, or anything that holds all weights of the model by name, under one of
            :data:`CONTAINERS` or none, with some of :data:`PREFIXES` before every key or none.
        checkpoint: Where it was read from, for messages.
        name: The config key that messages name.
        described_by: The key beside ``checkpoint`` that says what the model is.
        heads: Children that are left out of the model, which the log says, where the file has others or none.

    Returns:
        The names of the classes that the model was trained on, if the checkpoint says.

    Raises:
        ValueError: If any weight of the model is missing, of another shape or not finite, or the file holds others.
    """
    needed = {key: value for key, value in model.state_dict().items() if key.partition('.')[0] not in heads}
    weights = _weights_in(contents, needed, f'{name}.checkpoint')
    _leave_out(model, weights, heads, name)
    own = model.state_dict()
    reshaped = [key for key in own if key in weights and weights[key].shape != own[key].shape]
    shapes = [f'{key} {tuple(weights.pop(key).shape)} for {tuple(own[key].shape)}' for key in reshaped]
    where, kind = f"{name}.checkpoint '{checkpoint}'", type(model).__name__
    other = f'{where} is of another architecture than {name}.{described_by} ({kind}): '
    try:
        loaded = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # mmdet's one-stage detectors take a region proposal network for their own head
        unfit = re.findall(r'size mismatch for (\S+):', str(error))
        if not unfit:
            raise
        raise ValueError(other + _count('of another shape', unfit)) from error
    missing = [key for key in loaded.missing_keys if key not in reshaped and not _is_count(key)]
    faults = {'missing': missing, 'unexpected': list(loaded.unexpected_keys), 'of another shape': shapes}
    if any(faults.values()):
        raise ValueError(other + '; '.join(_count(kind, keys) for kind, keys in faults.items() if keys))
    check_finite(model, where)
    meta = contents.get('meta') or {}
    return class_names((meta.get('dataset_meta') or {}).get('classes') or meta.get('CLASSES'))


class LeftOut(nn.Identity):
    """In the place of a head that a checkpoint does not have: what it is given comes out, to nobody who listens to it."""

    def forward(self, input: Any) -> Any:
        if 'forward' in vars(self):  # as taps listen
            raise TapError('a head that the checkpoint does not have says nothing: tap what stands before it')
        return input


def _leave_out(model: nn.Module, weights: dict[str, Any], heads: Sequence[str], name: str) -> None:
    """Leave those heads out of a model and out of weights that are not of the same shapes in both."""
    for head in heads:
        own, other = (
            {key: value for key, value in state.items() if key.partition('.')[0] == head}
            for state in (model.state_dict(), weights)
        )
        if {key: value.shape for key, value in own.items()} == {key: value.shape for key, value in other.items()}:
            continue
        for key in other:
            del weights[key]
        if own:
            setattr(model, head, LeftOut())
        print_log(f'{name}.checkpoint: left out {head} ({len(own.keys() | other.keys())} keys)', logger='current')


def hash_of(state: Mapping[str, Tensor]) -> str:
    """Return a hash of weights by name: of their names, types, shapes and bits."""
    digest = hashlib.blake2b(digest_size=16)
    for key, value in sorted(state.items()):
        digest.update(f'{key} {value.dtype} {tuple(value.shape)}'.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _weights_in(contents: Mapping[str, Any], own: Mapping[str, Tensor], what: str) -> OrderedDict[str, Tensor]:
    """Return the first weights in a file that have all keys of the model, else its most likely ones."""
    wanted = {key for key in own if not _is_count(key)}
    likeliest: Any = None
    for container, saved in _containers(contents):
        for prefix in ('', *PREFIXES, *(one + other for one in PREFIXES for other in PREFIXES)):
            weights = {key.removeprefix(prefix): value for key, value in saved.items() if key.startswith(prefix)}
            likeliest = likeliest or (saved, weights)
            if wanted <= weights.keys():
                if (container, prefix) not in (('state_dict', ''), ('', '')):
                    place = f"'{container}'" if container else 'the file'
                    print_log(f"{what}: taken from {place}, the keys without '{prefix}'", logger='current')
                return _as_state(weights, saved)
    saved, weights = likeliest
    return _as_state({key.removeprefix('module.'): value for key, value in weights.items()}, saved)


def _containers(contents: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    found = [key for key in CONTAINERS if isinstance(contents.get(key), Mapping)]
    for key in found:
        yield key, contents[key]
    if 'state_dict' not in found:
        yield '', contents


def _as_state(weights: Mapping[str, Tensor], saved: Mapping[str, Any]) -> OrderedDict[str, Tensor]:
    state = OrderedDict((key, value) for key, value in weights.items())
    # With the versions of the modules: some of mmdet's rename what older ones wrote.
    state._metadata = getattr(saved, '_metadata', {})  # type: ignore[attr-defined]
    return state


def _is_count(key: str) -> bool:
    return key.endswith('num_batches_tracked')


def check_finite(model: nn.Module, what: str) -> None:
    values = {key: value for key, value in model.state_dict().items() if value.is_floating_point()}
    bad = [key for key, value in values.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise ValueError(f'{what} holds NaN or infinite weights ({_shown(bad)}): take an earlier checkpoint')


def _count(kind: str, keys: Sequence[str]) -> str:
    return f'{len(keys)} {"keys" if len(keys) > 1 else "key"} {kind} ({_shown(keys)})'


def _shown(keys: Sequence[str], most: int = 3) -> str:
    return ', '.join(keys[:most]) + (', …' if len(keys) > most else '')
