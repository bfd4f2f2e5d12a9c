"""Errors of a config: one sentence that begins with the config key, whichever library found the fault."""

from __future__ import annotations

import json
import linecache
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from mmengine.config import Config

from kddense.taps import nearest

LONGEST = 1000  # characters of another library's message that are repeated
BUILDER = 'build_from_cfg'  # the function of mmengine that builds whatever stands in a config
NO_SUCH_OPTION = re.compile(r"got an unexpected keyword argument '(\w+)'")


class ConfigError(ValueError):
    """Something in a config does not fit.

    Args:
        fault: What is wrong, and what to do; follows the key.
        key: The config key, relative to the part that is being built.
        owner: What messages call that part as long as nobody has said where it stands.
    """

    def __init__(self, fault: str, key: str = '', owner: str = '') -> None:
        super().__init__(fault)
        self.fault = fault
        self.key = key
        self.owner = owner
        self.is_placed = False

    def place(self, where: str, part: str = '') -> None:
        """Say where the part stands, unless the key says so already.

        Args:
            where: The key of what is built.
            part: The key in it of the part that the error is about.
        """
        if not where or not _begins_with(self.key, where):
            self.key = joined(where, '' if self.is_placed else part, self.key)
        self.owner = ''
        self.is_placed = True

    def __str__(self) -> str:
        key = joined(self.owner, self.key)
        colon = '' if self.fault.startswith((' ', ':', ',', '.', '[')) or not key else ' '
        return f'{key}{colon}{self.fault}'.removeprefix(':').strip()


def joined(*keys: str) -> str:
    """Return config keys as one: ``('objectives.hint', 'loss')`` as ``'objectives.hint.loss'``."""
    text = ''
    for key in filter(None, keys):
        text += key if key.startswith('[') or not text else f'.{key}'
    return text


@contextmanager
def within(where: str, config: Any = None) -> Iterator[None]:
    """Context manager: an error names the config key, and is one sentence; its cause stays chained.

    Args:
        where: The key of what is built, such as ``'student'``.
        config: Its config: where an error comes out of a part of it, that part's key is named.

    Raises:
        ConfigError: For all but the two below.
        FileNotFoundError: If that is what it was.
        ImportError: If that is what it was.
    """
    try:
        yield
    except ConfigError as error:
        error.place(where, _place_of(error, config))
        raise
    except Exception as error:
        if where and _begins_with(str(error), where):
            raise
        raise told(error, where, config) from error


def told(error: Exception, where: str, config: Any = None) -> Exception:
    """Return an error of another library as one of a config: its key, what was wrong there, and the mend."""
    built = _innermost(error, config)
    if built is None:
        return _of_kind(error, where, f': {sentence_of(error)}')
    key, part, known = built
    key = joined(where, key)
    kind = part.get('type')
    if isinstance(error, KeyError) and f'{kind} is not in the' in str(error):
        return _placed(ConfigError(f": there is no '{kind}'{nearest(str(kind), known)}", f'{key}.type'))
    unknown = NO_SUCH_OPTION.search(str(error)) if isinstance(error, TypeError) else None
    if unknown and unknown[1] in part:
        return _placed(ConfigError(f" ({kind}) has no key '{unknown[1]}': remove or correct it", key))
    file = part.get('ann_file')
    if file and isinstance(error, json.JSONDecodeError):
        fault = sentence_of(error) if error.doc.strip() else 'it is empty'
        return _placed(ConfigError(f": '{file}' is no JSON: {fault}", f'{key}.ann_file'))
    if file and 'need at least one array to concatenate' in str(error):  # as mmengine says of a data set without images
        fault = f": no image of '{file}' is left: is it empty, or has it none of the classes in metainfo?"
        return _placed(ConfigError(fault, f'{key}.ann_file'))
    return _of_kind(error, key, f' ({kind}) cannot be built: {sentence_of(error)}')


def _begins_with(text: str, key: str) -> bool:
    return re.match(rf'{re.escape(key)}(?!\w)', text) is not None


def is_of_config(error: BaseException) -> bool:
    """Tell whether an error is about what was given: it came up while a part of a config was built, or we refused it."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, ValueError) and frames[-1].f_globals.get('__name__', '').startswith('kddense.'):
        return True
    return isinstance(error, ConfigError) or any(frame.f_code.co_name == BUILDER for frame in frames)


def sentence_of(error: BaseException) -> str:
    """Return the message of an error of another library on one line."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, KeyError) and re.fullmatch(r'\w+', text):
        text = f"the key '{text}' is missing"
    if isinstance(error, AssertionError) and not text:
        text = f'this must hold: {_last_line(error.__traceback__).removeprefix("assert ")}'
    line = ' '.join(text.split()) or type(error).__name__
    return line if len(line) <= LONGEST else f'{line[:LONGEST]}…'


def in_worker(error: BaseException) -> str:
    """Return the message of an error; of one that a worker of a data loader raised, without its traceback."""
    text = str(error).strip()
    if not re.match(r'Caught \w+ in DataLoader worker process', text):
        return text
    return text.splitlines()[-1].strip().partition(': ')[2] or text


def _of_kind(error: Exception, key: str, fault: str) -> Exception:
    for kind in (FileNotFoundError, ImportError):
        if isinstance(error, kind):
            return kind(f'{key}{fault}')
    return _placed(ConfigError(fault, key))


def _placed(error: ConfigError) -> ConfigError:
    error.is_placed = True
    return error


def _last_line(trace: TracebackType | None) -> str:
    frames = list(traceback.walk_tb(trace))
    frame, line = frames[-1]
    return linecache.getline(frame.f_code.co_filename, line).strip()


def _place_of(error: Exception, config: Any) -> str:
    built = _innermost(error, config)
    return '' if built is None else built[0]


def _innermost(error: Exception, config: Any) -> tuple[str, Mapping[str, Any], list[str]] | None:
    """Return the innermost part of a config that was being built: its key in it, itself, the names that there are."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code.co_name == BUILDER]
    for frame in reversed(frames):
        part, registry = frame.f_locals['cfg'], frame.f_locals['registry']
        for key, own in _parts_of(config):
            if _is_part(own, part):
                return key, own, _names_in(registry, str(own['type']))
    return None


def _names_in(registry: Any, kind: str) -> list[str]:
    """Return the names in a registry of mmengine and all beside it; with scopes if ``kind`` has one, or lacks one alone."""
    while registry.parent is not None:
        registry = registry.parent
    names = [(one.scope, name) for one in (registry, *registry.children.values()) for name in one.module_dict]
    with_scope = '.' in kind or kind in {name for _, name in names}
    return sorted(f'{scope}.{name}' if with_scope else name for scope, name in names)


def _parts_of(config: Any, key: str = '') -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield all parts of a config that have a ``type``, with their keys."""
    if isinstance(config, (Mapping, Config)):
        if 'type' in config:
            yield key, config
        for name, value in config.items():
            yield from _parts_of(value, joined(key, str(name)))
    elif isinstance(config, (list, tuple)):
        for index, value in enumerate(config):
            yield from _parts_of(value, f'{key}[{index}]')


def _is_part(own: Mapping[str, Any], built: Mapping[str, Any]) -> bool:
    """Tell whether what was built is a part of a config, which libraries copy and add to."""
    plain = {key: value for key, value in own.items() if isinstance(value, (str, int, float, bool, type(None)))}
    return all(key in built and built[key] == value for key, value in plain.items())
