"""What a config out of a checkpoint may name: registered types, and modules of the libraries that we know.

Reading its text runs nothing, but mmengine resolves names: ``type='subprocess.Popen'`` is imported and called, and so are
``custom_imports``; mmcv evaluates the ``type`` of an ``nms``; a config in a file is run when the file is read. So each name
must be one that a registry knows already, and each text one that stays a text.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.registry import Registry

PACKAGES = ('kddense', 'mmdet', 'mmseg', 'mmcv', 'mmengine')
NAMING = ('type', 'constructor', 'runner_type')  # keys whose text mmengine looks up in a registry
SCOPES = ('default_scope', '_scope_')
NMS = ('nms', 'soft_nms', 'nms_match', 'nms_rotated', 'nms_quadri')  # mmcv's functions, which no registry holds
ROI_LAYERS = ('RoIAlign', 'RoIPool', 'ModulatedDeformRoIPoolPack', 'DeformRoIPoolPack', 'PrRoIPool')  # likewise


def check_names(settings: Mapping[str, Any]) -> None:
    """Raise a ValueError if a config names anything else, which would be imported and called.

    Args:
        settings: The config as a dictionary.
    """
    if '_base_' in settings:
        raise ValueError(f'it takes over another file, _base_ = {settings["_base_"]!r}')
    for package in _imports_of(settings):
        if package.partition('.')[0] not in PACKAGES:
            raise ValueError(f'custom_imports: it imports {package!r}, which is no part of {", ".join(PACKAGES)}')
    known = _known_names()
    for place, key, value in _entries(settings):
        if not _is_tame(key, value):
            raise ValueError(f'{place}: a key or text that would not be read back as it is')
        if key in SCOPES and value is not None and value not in PACKAGES:
            raise ValueError(f'{place}: the scope {value!r} is none of {", ".join(PACKAGES)}')
        if key in NAMING and isinstance(value, str) and value not in known:
            raise ValueError(f'{place}: {value!r} is no type that is registered')


def _imports_of(settings: Mapping[str, Any]) -> list[str]:
    named = settings.get('custom_imports')
    if named is None:
        return []
    if not isinstance(named, Mapping) or not set(named) <= {'imports', 'allow_failed_imports'}:
        raise ValueError(f'custom_imports must be a dict with imports, got {named!r}')
    imports = named.get('imports') or []
    return [str(one) for one in ([imports] if isinstance(imports, str) else imports)]


def _entries(value: Any, place: str = '') -> Iterator[tuple[str, Any, Any]]:
    """Yield place, key and value of everything in a setting; items of a list have the key ``None``."""
    if isinstance(value, Mapping):
        pairs = list(value.items())
    elif isinstance(value, (list, tuple, set)):
        pairs = [(None, item) for item in value]
    else:
        return
    for key, item in pairs:
        where = '.'.join(str(part) for part in (place or None, key) if part is not None)
        yield where, key, item
        yield from _entries(item, where)


def _is_tame(key: Any, value: Any) -> bool:
    """Tell whether mmengine reads a key and a text back as it wrote them: keys are not escaped, ``{{…}}`` is filled in."""
    texts = [one for one in (key, value) if isinstance(one, str)]
    return not any('{{' in text for text in texts) and not (isinstance(key, str) and set(key) & set('\'"\\\n\r'))


def _known_names() -> set[str]:
    """Return what the registries of the packages know: bare names, names with a scope, and names with their modules."""
    names = {*NMS, *ROI_LAYERS}
    for registry in _registries():
        registry.import_from_location()
        for name, one in registry.module_dict.items():
            names |= {name, f'{registry.scope}.{name}', f'{one.__module__}.{getattr(one, "__qualname__", name)}'}
    return names


def _registries() -> Iterator[Registry]:
    for package in PACKAGES:
        if importlib.util.find_spec(package) and importlib.util.find_spec(f'{package}.registry'):
            module = importlib.import_module(f'{package}.registry')
            yield from (value for value in vars(module).values() if isinstance(value, Registry))
