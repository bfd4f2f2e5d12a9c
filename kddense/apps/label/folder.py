"""The folder of labels: what is in it already, whose it is, and what is still to be done."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kddense.errors import ConfigError
from kddense.files import ASIDE, write_whole

from .families import Family

RUN, THRESHOLDS = 'run.json', 'thresholds.json'
UNREADABLE = 'unreadable'
CONTENTS = ('records', 'labels', 'scores', 'depth', 'annotations.json', UNREADABLE)  # what is written after RUN


class LabelFolder:
    """A folder that several processes fill, and that is whole whenever one of them ends.

    Args:
        path: Where it is.
        family: What is written of each image.
        identity: What decides the labels, as short texts by name.

    Raises:
        ConfigError: If it holds labels of another model, or by other options, or files that are not ours under their names.
    """

    def __init__(self, path: Path, family: Family, identity: Mapping[str, str]) -> None:
        self.path = path
        self.family = family
        self.identity = dict(identity)
        # Looked for before RUN is, which is written before them: another shard may begin just now.
        there = [name for name in CONTENTS if (path / name).exists()]
        before = self._json(RUN, 'name another folder')
        self._is_new = before is None
        if before is None and there:
            raise ConfigError(
                f"'{path}' holds something else, {there[0]} without a {RUN} that says whose it is: name another folder",
                '--out',
            )
        if before not in (None, self.identity):
            other = [key for key in {**self.identity, **before} if before.get(key) != self.identity.get(key)]
            raise ConfigError(
                f"'{path}' holds labels that were made with other {' and '.join(other)}: name another folder", '--out'
            )

    def thresholds(self, choose: Callable[[], dict[str, Any]]) -> dict[str, float | None]:
        """Return the least scores by class, chosen once and kept; from then on the folder is this run's.

        Raises:
            ConfigError: If what was kept is damaged.
        """
        kept = None if self._is_new else self._json(THRESHOLDS, 'remove it, and they are chosen anew', 'classes')
        if kept is None:
            kept = choose()
            _write(self.path / THRESHOLDS, _as_json(kept))
        _write(self.path / RUN, _as_json(self.identity))
        return kept['classes']

    def is_done(self, name: str) -> bool:
        """Tell whether an image is labelled."""
        return (self.path / self.family.file(name)).is_file()

    def is_unreadable(self, name: str) -> bool:
        """Tell whether an image could not be read."""
        return (self.path / UNREADABLE / name).is_file()

    def note_unreadable(self, name: str) -> None:
        """Note that an image cannot be read."""
        _write(self.path / UNREADABLE / name, b'')

    def keep(self, files: Mapping[str, bytes]) -> None:
        """Write the files of an image."""
        for file, contents in files.items():
            _write(self.path / file, contents)

    def finish(self, names: Sequence[str], thresholds: Mapping[str, float | None]) -> bool:
        """Write what is of all images together, if all are done; tell whether they are."""
        labelled = [name for name in names if self.is_done(name)]
        if not all(self.is_done(name) or self.is_unreadable(name) for name in names):
            return False
        for file, contents in self.family.gather(self.path, labelled, thresholds).items():
            _write(self.path / file, contents)
        for left in self.path.rglob(f'*-[0-9]*{ASIDE}'):  # of processes that were killed
            left.unlink(missing_ok=True)
        return True

    def _json(self, name: str, mend: str, *keys: str) -> Any:
        """Return what a file holds, ``None`` if there is none."""
        file = self.path / name
        if not file.is_file():
            return None
        try:
            found = json.loads(file.read_text())
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all(isinstance(found.get(key), dict) for key in keys):
            raise ConfigError(f": '{file}' is damaged: {mend}", '--out')
        return found


def _as_json(contents: Mapping[str, Any]) -> bytes:
    return (json.dumps(contents, indent=2) + '\n').encode()


def _write(file: Path, contents: bytes) -> None:
    """Write what other processes may write at the same time, all of them the same."""
    try:
        write_whole(file, contents, shared=True)
    except FileNotFoundError:  # another process, which found all done, has removed it
        if not file.is_file():
            raise
