"""Records in the files of a folder, which several processes and machines may fill together.

A shard is a file of safetensors with some tens of megabytes of records and their index in its head. It is written aside,
synced and renamed, and never touched again: its name stands for all of it, whenever a process ends. Every process writes
shards of its own, and sees those of the others.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kddense.files import write_whole

SUFFIX = '.safetensors'
FULL_SHARD = 64 * 2**20  # bytes
LONGEST = 60.0  # seconds that a record waits to be written
PATIENCE = 10.0  # seconds between two looks for shards of others


@dataclass(frozen=True)
class Record:
    """What is kept of one image's answer.

    Attributes:
        structure: What the tensors are, as JSON; many records share one.
        tensors: Views of a file that is mapped into memory, or what has not been written yet.
    """

    structure: str
    tensors: list[Tensor]


@dataclass
class _Pending:
    """Records that are in no file yet."""

    records: dict[str, Record] = field(default_factory=dict)
    bytes: int = 0
    since: float = field(default_factory=time.monotonic)


class Store:
    """The records in a folder.

    Args:
        folder: Where; it is made when something is written.
        name: The config key that messages name.
        spare: Bytes of the disk that are left to others: checkpoints, say.
    """

    def __init__(self, folder: Path, name: str, spare: float) -> None:
        self.folder = folder
        self.name = name
        self.spare = spare
        self.has_ended = False
        self._shards: dict[str, _Shard | None] = {}
        self._where: dict[str, _Shard] = {}
        self._pending = _Pending()
        self._being_written: _Pending | None = None
        self._writer: threading.Thread | None = None
        self._own, self._written = uuid.uuid4().hex[:12], 0
        self._process = os.getpid()
        self._looked = float('-inf')
        self.look()

    def __len__(self) -> int:
        return len(self._where) + len(self._pending.records)

    def find(self, key: str) -> Record | None:
        """Return a record, ``None`` if there is none."""
        for waiting in (self._pending, self._being_written):
            if waiting is not None and key in waiting.records:
                return waiting.records[key]
        if key not in self._where and time.monotonic() - self._looked > PATIENCE:
            self.look()
        shard = self._where.get(key)
        return None if shard is None else shard.read(key)

    def look(self) -> None:
        """Look for shards that others have written, and ours of former runs."""
        self._looked = time.monotonic()
        for file in sorted(self.folder.glob(f'*{SUFFIX}')):
            if file.name not in self._shards:
                self._open(file)

    def _open(self, file: Path) -> None:
        try:
            shard: _Shard | None = _Shard(file)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            shard = None
            self._tell(f"the shard '{file.name}' is damaged or cut off, its answers are asked again ({error})")
        self._shards[file.name] = shard
        if shard is not None:
            self._where.update(dict.fromkeys(shard.records, shard))

    def add(self, key: str, record: Record) -> None:
        """Keep a record; it is in a file when enough others are there, after a minute, or when the process ends."""
        if self.has_ended:
            return
        self._pending.records[key] = record
        self._pending.bytes += sum(tensor.nbytes for tensor in record.tensors)
        if self._pending.bytes >= FULL_SHARD or time.monotonic() - self._pending.since > LONGEST:
            self.flush(wait=False)

    def flush(self, wait: bool = True) -> None:
        """Write what waits to be written.

        Args:
            wait: Return when it is written; else another thread writes while this process goes on.
        """
        self._join()
        if self._pending.records and not self.has_ended:
            self._being_written, self._pending = self._pending, _Pending()
            if wait:  # perhaps as the interpreter ends, which starts no thread any more
                self._write(self._being_written)
                return
            self._writer = threading.Thread(target=self._write, args=(self._being_written,), daemon=True)
            self._writer.start()

    def close(self) -> None:
        """Write what waits, unless this is a process that was forked."""
        if os.getpid() == self._process:
            self.flush()

    def end(self, error: OSError) -> None:
        """Keep nothing more, as the disk is full, say."""
        self.has_ended = True
        self._pending = _Pending()
        self._tell(f'nothing more can be kept ({error}): what is there is read, all else is asked each time')

    def _join(self) -> None:
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    def _write(self, pending: _Pending) -> None:
        file = self.folder / f'{self._own}-{self._written:05d}{SUFFIX}'
        self._written += 1
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
            if free < pending.bytes + self.spare:
                raise OSError(f'{free / 2**30:.1f} GiB are free, {self.spare / 2**30:g} of them spared')
            write_whole(file, save(*_as_tensors(pending)))
        except OSError as error:
            self.end(error)
        else:
            self._open(file)
        self._being_written = None

    def _tell(self, text: str) -> None:
        print_log(f"{self.name}.folder '{self.folder}': {text}", logger='current', level=30)


class _Shard:
    """A file of records, mapped into memory."""

    def __init__(self, file: Path) -> None:
        self._file: Any = safe_open(file, framework='pt')
        about = self._file.metadata()
        self._structures = json.loads(about['structures'])
        self.records: dict[str, list[int]] = json.loads(about['records'])

    def read(self, key: str) -> Record:
        structure, count = self.records[key]
        return Record(self._structures[structure], [self._file.get_tensor(f'{key}.{part}') for part in range(count)])


def _as_tensors(pending: _Pending) -> tuple[dict[str, Tensor], dict[str, str]]:
    structures: dict[str, int] = {}
    tensors, records = {}, {}
    for key, record in pending.records.items():
        records[key] = [structures.setdefault(record.structure, len(structures)), len(record.tensors)]
        tensors.update({f'{key}.{part}': tensor for part, tensor in enumerate(record.tensors)})
    return tensors, dict(structures=json.dumps(list(structures)), records=json.dumps(records))


def write_once(file: Path, contents: bytes) -> None:
    """Write a small file that several processes may write at once, each the whole of it."""
    own = file.with_name(f'{uuid.uuid4().hex}.new')
    try:
        write_whole(own, contents)
        os.replace(own, file)
    finally:
        with contextlib.suppress(OSError):
            own.unlink()
