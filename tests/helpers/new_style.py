"""Configs of mmengine's new style, made of those of the other."""

from __future__ import annotations

import importlib
from typing import Any

from mmengine.registry import Registry


def new_style(config: dict[str, Any], package: str) -> str:
    """Return a config as mmengine's new style writes it: types are classes, which it imports."""
    registries = [
        one for one in vars(importlib.import_module(f'{package}.registry')).values() if isinstance(one, Registry)
    ]
    imports: set[str] = set()

    def written(value: Any) -> str:
        if isinstance(value, dict):
            kind = value.get('type')
            pairs = (f'{key!r}: {imported(kind) if key == "type" else written(one)}' for key, one in value.items())
            return f'{{{", ".join(pairs)}}}'
        if isinstance(value, (list, tuple)):
            items = ''.join(f'{written(one)}, ' for one in value)
            return f'[{items}]' if isinstance(value, list) else f'({items})'
        return repr(value)

    def imported(name: str) -> str:
        found = [one for one in (registry.get(name) for registry in registries) if one is not None]
        kind = next((one for one in found if one.__module__.startswith(package)), found[0] if found else None)
        if kind is None or not kind.__module__.startswith('mm') or (package == 'mmseg' and name.startswith('Load')):
            return repr(name)  # mmseg's own interfaces look for its loading transforms by name
        imports.add(f'from {kind.__module__} import {kind.__name__}')
        return str(kind.__name__)

    lines = [f'{key} = {written(value)}' for key, value in config.items() if key != 'default_scope']
    return '\n'.join([*sorted(imports), *lines])
