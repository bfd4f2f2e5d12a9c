"""The checkpoints in a work_dir: which is the last, and which of them are whole."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

POINTER = 'last_checkpoint'  # the file in which mmengine names the last one
INTERRUPTED = 'interrupted.pth'  # written when a training is asked to end; the next ordinary checkpoint replaces it
NUMBERED = r'(?:epoch|iter)_(\d+)\.pth'


def is_whole(checkpoint: Path) -> bool:
    """Tell whether a file is all there that ``torch.save`` wrote: it is an archive, whose table of contents comes last."""
    try:
        size = checkpoint.stat().st_size
        with zipfile.ZipFile(checkpoint) as archive:
            return all(one.header_offset + one.compress_size < size for one in archive.infolist())
    except (OSError, zipfile.BadZipFile):
        return False


def named_checkpoint(folder: Path) -> str:
    """Return what the pointer in a work_dir names, the empty text if nothing."""
    try:
        return (folder / POINTER).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ''


def find_checkpoint(work_dir: Path, folder: Path | None = None, numbered: str = NUMBERED) -> Path | None:
    """Return the last whole checkpoint of a run, wherever its folder was moved to.

    That is the one that ``last_checkpoint`` names; if that is absent or cut off, the whole one with the highest number.

    Args:
        work_dir: The folder of the run.
        folder: Where its checkpoints are; by default there.
        numbered: The names of checkpoints as a regular expression, with their number as its group.

    Returns:
        ``None`` if there is no whole one.
    """
    folder = folder or work_dir
    named = Path(named_checkpoint(work_dir)).name
    if named and is_whole(folder / named):
        return folder / named
    matches = ((path, re.fullmatch(numbered, path.name)) for path in folder.glob('*.pth'))
    in_order = sorted(((int(match[1]), path) for path, match in matches if match), reverse=True)
    return next((path for _, path in in_order if is_whole(path)), None)
