"""The files of an export: written aside and moved, so that nothing is lost and no failure leaves a file behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Targets:
    """The files of an export.

    Attributes:
        checkpoint: The weights.
        config: The config beside them.
        onnx: The ONNX file, if there is to be one.
        int8: That in 8 bits, likewise.
    """

    checkpoint: Path
    config: Path
    onnx: Path | None = None
    int8: Path | None = None

    @classmethod
    def beside(cls, checkpoint: Path, onnx: bool, int8: bool = False) -> Targets:
        """Return the files that belong to a checkpoint, which differ from it in their suffix.

        Raises:
            ValueError: If the checkpoint has another suffix than its own.
        """
        if checkpoint.suffix != '.pth':
            raise ValueError(f'the checkpoint to write must end in .pth, got {checkpoint}')
        config, float_file, int8_file = (checkpoint.with_suffix(suffix) for suffix in ('.py', '.onnx', '.int8.onnx'))
        return cls(checkpoint, config, float_file if onnx else None, int8_file if int8 else None)

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return tuple(file for file in (self.checkpoint, self.config, self.onnx, self.int8) if file is not None)

    def check(self, force: bool) -> None:
        """Raise an error if they cannot or should not be written.

        Args:
            force: Whether files that exist may be replaced.

        Raises:
            FileExistsError: If one exists.
            ValueError: If they are to lie in the work_dir of a run.
            OSError: If their folder cannot be written to.
        """
        for file in self.files:
            if file.is_dir() or (file.exists() and not force):
                raise FileExistsError(f'{file} exists, and nothing was written: choose another name, or pass --force')
        folder = self.checkpoint.parent
        if (folder / 'last_checkpoint').is_file():
            raise ValueError(
                f'{folder} is the work_dir of a run, whose config {self.config.name} would be taken for: '
                'choose another folder'
            )
        existing = next(parent for parent in self.checkpoint.absolute().parents if parent.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise OSError(f'{self.checkpoint} cannot be written: {existing} is no folder that you may write to')

    def check_inputs(self, *inputs: Path) -> None:
        """Raise a FileExistsError if one of them is a file that is to be exported."""
        taken = {one.resolve() for one in inputs}
        for file in self.files:
            if file.resolve() in taken:
                raise FileExistsError(
                    f'{file} is what is to be exported, and is never overwritten: choose another name'
                )

    @contextmanager
    def written_aside(self) -> Iterator[Targets]:
        """Yield the same files in a folder beside them; unless an error is raised, they are then moved to their places."""
        with _folder_in(self.checkpoint.parent) as folder:
            aside = Targets.beside(folder / self.checkpoint.name, self.onnx is not None, self.int8 is not None)
            yield aside
            for written, target in zip(aside.files, self.files, strict=True):
                os.replace(written, target)


@contextmanager
def _folder_in(parent: Path) -> Iterator[Path]:
    """Yield a folder on the target's file system, from which files are moved in one stroke; it is gone afterwards.

    If an error is raised, so are the folders that were made for it.
    """
    missing = [one for one in (parent, *parent.parents) if not one.exists()]
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='.export-', dir=parent) as folder:
            yield Path(folder)
    except BaseException as error:
        with suppress(OSError):  # somebody else has put a file there, or it was never made
            for one in missing:
                one.rmdir()
        if isinstance(error, OSError):
            raise OSError(f'{parent} cannot be written to: {error}') from error
        raise
