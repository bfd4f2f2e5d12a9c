"""Which images a text names: a folder, a pattern or a list."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import mmcv
import numpy as np

from kddense.errors import ConfigError

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


@dataclass(frozen=True)
class Images:
    """Images by their path relative to one folder, in a fixed order.

    Attributes:
        root: The folder.
        names: Paths in it, with ``/``.
    """

    root: Path
    names: tuple[str, ...]

    def path(self, name: str) -> Path:
        """Return where an image is."""
        return self.root / name


def find_files(source: str, suffixes: Collection[str] = SUFFIXES) -> list[Path]:
    """Return the files that a text names, each once, in the order of their paths.

    Args:
        source: A folder, searched with all folders in it; a pattern such as ``'frames/*/*.png'``; or a ``.txt`` file with a
            path on each line, relative to the file.
        suffixes: Endings of the files that are looked for, in lower case; all that a list names is taken.

    Raises:
        FileNotFoundError: If it names none.
    """
    path = Path(source)
    if path.suffix == '.txt' and path.is_file():
        lines = [line.strip() for line in path.read_text().splitlines()]
        found = [path.parent / line for line in lines if line]
    else:
        candidates = path.rglob('*') if path.is_dir() else map(Path, glob.glob(source, recursive=True))
        found = [one for one in candidates if one.suffix.lower() in suffixes and one.is_file()]
    if not found:
        raise FileNotFoundError(
            f"there is no image in '{source}': name a folder, a pattern or a .txt list of {', '.join(suffixes)}"
        )
    return sorted(set(found), key=Path.as_posix)


def find_images(source: str) -> Images:
    """Return the images that a text names, as what is to be labelled.

    Args:
        source: See :func:`find_files`.

    Raises:
        FileNotFoundError: If it names none.
        ConfigError: If two of them differ in the ending of their name alone, their labels would have one name; or one lies
            outside of its list's folder.
    """
    path, found = Path(source), find_files(source)
    root = path if path.is_dir() else path.parent
    if not path.exists():  # a pattern
        root = Path(os.path.commonpath([one.parent for one in found]))
    names = sorted({Path(os.path.relpath(one, root)).as_posix() for one in found})
    _check_names(names)
    return Images(root, tuple(names))


def _check_names(names: list[str]) -> None:
    outside = [name for name in names if name.startswith('../')]
    if outside:
        raise ConfigError(f"'{outside[0]}' lies outside of the list's folder: put the list above its images")
    twice = [stem for stem, count in Counter(name.rpartition('.')[0] for name in names).items() if count > 1]
    if twice:
        both = [name for name in names if name.rpartition('.')[0] == twice[0]]
        raise ConfigError(
            f'{" and ".join(both)} would have labels of one name: rename one, or name a pattern of one ending'
        )


def read_image(path: Path) -> np.ndarray | None:
    """Return an image, ``None`` if it cannot be read."""
    try:
        return mmcv.imread(str(path))
    except Exception:  # whatever a decoder makes of a damaged file
        return None
