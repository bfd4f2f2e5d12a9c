"""What the modules of a config's ``custom_imports`` are made of, as far as they are imported."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType


def is_kddense(name: str) -> bool:
    """Tell whether a module is kddense, or a part of it."""
    return name.partition('.')[0] == 'kddense'


def builds_on_kddense(name: str) -> bool:
    """Tell whether a module of somebody else, or a part of it, imports kddense."""
    if is_kddense(name):
        return False
    files = [Path(getattr(module, '__file__', None) or '') for module in _with_parts(name)]
    sources = [file.read_text() for file in files if file.suffix == '.py']
    return any(re.search(r'^\s*(from|import)\s+kddense\b', source, flags=re.MULTILINE) for source in sources)


def names_defined_in(name: str) -> set[str]:
    """Return the names of the classes and functions that a module and its parts define."""
    return {
        key
        for module in _with_parts(name)
        for key, value in vars(module).items()
        if getattr(value, '__module__', None) == module.__name__
    }


def _with_parts(name: str) -> list[ModuleType]:
    return [module for key, module in list(sys.modules.items()) if key == name or key.startswith(f'{name}.')]
