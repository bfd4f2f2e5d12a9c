"""The folder of labels: what is in it already, whose it is, and what is still to be done."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kddense.errors import ConfigError
from kddense.files import write_whole

from .families import Family

RUN, THRESHOLDS = 'run.json', 'thresholds.json'
UNREADABLE = 'unreadable'


class LabelFolder:
    """A folder that several processes fill, and that is whole whenever one of them ends.

    Args:
        path: Where it is.
        family: What is written of each image.
        identity: What decides the labels, as short texts by name.

    Raises:
        ConfigError: If it holds labels of another model, or by other options.
    """

    def __init__(self, path: Path, family: Family, identity: Mapping[str, str]) -> None:
        self.path = path
        self.family = family
        before = self._json(RUN)
        if before is None:
            _write(path / RUN, dict(identity))
        elif before != identity:
            other = [key for key in identity if before.get(key) != identity[key]]
            raise ConfigError(
                f"'{path}' holds labels that were made with {' and '.join(other)} of another kind: name another folder",
                '--out',
            )

    def thresholds(self, choose: Callable[[], dict[str, Any]]) -> dict[str, float | None]:
        """Return the least scores by class, chosen once and kept."""
        kept = self._json(THRESHOLDS)
        if kept is None:
            kept = choose()
            _write(self.path / THRESHOLDS, kept)
        return kept['classes']

    def is_done(self, name: str) -> bool:
        """Tell whether an image is labelled."""
        return (self.path / self.family.file(name)).is_file()

    def is_unreadable(self, name: str) -> bool:
        """Tell whether an image could not be read."""
        return (self.path / UNREADABLE / name).is_file()

    def note_unreadable(self, name: str) -> None:
        """Note that an image cannot be read."""
        write_whole(self.path / UNREADABLE / name, b'')

    def keep(self, files: Mapping[str, bytes]) -> None:
        """Write the files of an image."""
        for file, contents in files.items():
            write_whole(self.path / file, contents)

    def finish(self, names: Sequence[str], thresholds: Mapping[str, float | None]) -> bool:
        """Write what is of all images together, if all are done; tell whether they are."""
        labelled = [name for name in names if self.is_done(name)]
        if not all(self.is_done(name) or self.is_unreadable(name) for name in names):
            return False
        for file, contents in self.family.gather(self.path, labelled, thresholds).items():
            _write(self.path / file, contents)
        return True

    def _json(self, name: str) -> Any:
        file = self.path / name
        return json.loads(file.read_text()) if file.is_file() else None


def _write(file: Path, contents: Any) -> None:
    """Write what other processes may write at the same time, all of them the same."""
    data = contents if isinstance(contents, bytes) else (json.dumps(contents, indent=2) + '\n').encode()
    try:
        write_whole(file, data)
    except FileNotFoundError:  # another process has just put its own in place
        if not file.is_file():
            raise
