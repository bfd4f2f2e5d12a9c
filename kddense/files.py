"""Files that are whole whenever a process ends: written aside, synced to the disk, and renamed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from pathlib import Path
from typing import Any

from mmengine.fileio import LocalBackend, register_backend

ASIDE = '.part'  # what is added to a name for a file that is not whole yet; a later attempt writes over it
BACKEND = 'kddense_whole'  # the name in a ``backend_args`` of mmengine


def write_whole(file: str | Path, contents: bytes, shared: bool = False) -> None:
    """Write a file such that its name stands for the old contents, or for all of the new ones, whenever the process ends.

    Args:
        file: Where to; its folder is made if there is none.
        contents: What to write.
        shared: Whether other processes may write the same file now: each has a name aside of its own then, which stays if it
            is killed.

    Raises:
        OSError: If it cannot be written; then the old file is untouched and nothing else is left.
    """
    file = Path(file)
    own = f'.{platform.node()}-{os.getpid()}' if shared else ''
    aside = file.with_name(f'{file.name}{own}{ASIDE}')
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with aside.open('wb') as opened:
            opened.write(contents)
        put_in_place(aside, file)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def put_in_place(aside: Path, file: Path) -> None:
    """Give a file that was written aside its name, once it is on the disk.

    Args:
        aside: The file, in the same folder.
        file: Its name from now on; what had it is replaced.
    """
    _sync(aside, os.O_RDWR)
    os.replace(aside, file)
    with contextlib.suppress(OSError):  # Windows and some network drives cannot
        _sync(file.parent, os.O_RDONLY)


def file_digest(file: Path) -> str:
    """Return the SHA-256 of what a file holds, read in parts: a checkpoint may be larger than the memory."""
    digest = hashlib.sha256()
    with file.open('rb') as opened:
        while part := opened.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def value_digest(value: Any) -> str:
    """Return the SHA-256 of a value of plain data, such as a config's contents; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class WholeFileBackend(LocalBackend):
    """mmengine's backend for local files, which writes by :func:`write_whole`."""

    def put(self, obj: bytes | memoryview, filepath: str | Path) -> None:
        write_whole(filepath, obj)  # type: ignore[arg-type]

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        write_whole(filepath, obj.encode(encoding))


register_backend(BACKEND, WholeFileBackend, force=True)
