"""Whose answers a folder holds, and about what."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from kddense.errors import ConfigError

from .store import write_once

FILE = 'about.json'
FULL = (errno.ENOSPC, errno.EDQUOT)
LAYOUT = 2  # of records and shards; counts up whenever older ones could be misread
LIBRARIES = ('torch', 'mmcv', 'mmdet', 'mmseg')
OWN = ('kddense', 'mmengine')  # whose layers hold those of others
# What each entry is about, in words; '{0}' is what the folder says, '{1}' what this run says.
WORDS = {
    'layout': 'in a form of another version of kddense',
    'weights': 'of a teacher with other weights',
    'teacher': 'of another teacher: its config, its options or its memory format (channels_last, ChannelsLastHook) differ',
    'student': "about images in another format of the student's: its data_preprocessor differs",
    'images': 'about {0} images where the data set has {1}',
    'seed': 'about variants of the seed {0}, not {1}',
    'pipeline': 'about images of another pipeline or data set',
    'form': "kept as '{0}', not '{1}'",
    'versions': 'computed by {0}, not {1}',
}


def versions(model: nn.Module | None = None) -> str:
    """Return the versions of what computes answers, in words.

    Args:
        model: A model, whose layers may be of other libraries too: timm's, say.
    """
    layers = model.modules() if model is not None else ()
    others = {type(layer).__module__.partition('.')[0] for layer in layers}.difference(LIBRARIES, OWN)
    found = []
    for name in (*LIBRARIES, *sorted(others)):
        try:
            version = getattr(import_module(name), '__version__', None)
        except ImportError:
            continue
        if version is not None:
            found.append(f'{name} {version}')
    return ', '.join(found)


def check_keepable(teacher: nn.Module, name: str) -> None:
    """Raise a ConfigError if the answers of a teacher, or of one in it, cannot be kept."""
    for part in teacher.modules():
        if why := getattr(part, 'unkept', ''):
            raise ConfigError(f'cannot be one whose answers are kept: {why}', f'{name}.teacher')


def check_same(folder: Path, own: Mapping[str, Any], name: str) -> OSError | None:
    """Check that a folder holds answers of this teacher about these images; an empty one is marked as such.

    Args:
        folder: Of the cache.
        own: What this run says, by the keys of :data:`WORDS`.
        name: The config key that messages name.

    Returns:
        An error if the disk is full: then nothing can be kept.

    Raises:
        ConfigError: If it holds others, or cannot be made or read.
    """
    file = folder / FILE
    own = json.loads(json.dumps(dict(own, layout=LAYOUT)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            write_once(file, json.dumps(own, indent=1).encode())
        found = json.loads(file.read_text())
    except OSError as error:
        if error.errno in FULL:
            return error
        raise ConfigError(f"'{folder}' cannot be used: {error.strerror or error}", f'{name}.folder') from error
    except ValueError as error:
        raise ConfigError(
            f"'{folder}': {FILE} is damaged: remove the folder, or give another one", f'{name}.folder'
        ) from error
    differing = [
        words.format(found.get(key) if isinstance(found, dict) else None, own[key])
        for key, words in WORDS.items()
        if not isinstance(found, dict) or found.get(key) != own[key]
    ]
    if differing:
        raise ConfigError(
            f"'{folder}' holds answers {', '.join(differing)}: give another folder; this one stays as it is",
            f'{name}.folder',
        )
    return None
