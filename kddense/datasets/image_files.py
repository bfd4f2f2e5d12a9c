"""Which images are labelled: a folder, a pattern or a list."""

from __future__ import annotations

import glob
import os
from collections import Counter
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


def find_images(source: str) -> Images:
    """Return the images that a text names.

    Args:
        source: A folder, searched with all folders in it; a pattern such as ``'frames/*/*.png'``; or a ``.txt`` file with a
            path on each line, relative to the file.

    Raises:
        FileNotFoundError: If it names none.
        ConfigError: If two of them differ in the ending of their name alone: their labels would have one name.
    """
    path = Path(source)
    if path.is_dir():
        root, found = path, [one for one in path.rglob('*') if one.suffix.lower() in SUFFIXES and one.is_file()]
    elif path.suffix == '.txt' and path.is_file():
        lines = [line.strip() for line in path.read_text().splitlines()]
        root, found = path.parent, [path.parent / line for line in lines if line]
    else:
        found = [Path(one) for one in glob.glob(source, recursive=True) if Path(one).suffix.lower() in SUFFIXES]
        root = Path(os.path.commonpath([one.parent for one in found])) if found else path
    if not found:
        raise FileNotFoundError(
            f"there is no image in '{source}': name a folder, a pattern or a .txt list of {', '.join(SUFFIXES)}"
        )
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
