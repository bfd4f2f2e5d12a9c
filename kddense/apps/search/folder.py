"""The folder of a search belongs to one study: what another study left is neither taken nor written over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kddense.errors import ConfigError
from kddense.files import write_whole

NOTE = 'study.txt'
TRIALS = 'trials'


def study_in(work_dir: Path) -> str | None:
    """Return the digest of the study that a folder belongs to, ``None`` if no note says so."""
    file = work_dir / NOTE
    return file.read_text().strip() if file.exists() else None


def take(work_dir: Path, digest: str, is_begun: bool) -> None:
    """Note in a folder that it belongs to a study.

    Args:
        work_dir: The folder; made if there is none.
        digest: Of the study.
        is_begun: Whether the study was there before. Trials without a note, as older versions left them, are then its own.

    Raises:
        ConfigError: If the folder belongs to another study.
    """
    # Looked at before the note: a worker that begins now writes its note before its trials.
    has_trials = (work_dir / TRIALS).exists()
    noted = study_in(work_dir)
    if noted == digest:
        return
    if noted is not None:
        raise another_study(work_dir, 'folder with --work-dir')
    if has_trials and not is_begun:
        raise ConfigError(
            f'{work_dir} holds trials, and nothing says of which study: choose another folder with --work-dir, what is '
            'there stays'
        )
    write_whole(work_dir / NOTE, f'{digest}\n'.encode(), shared=True)


def another_study(where: str | Path, another: str) -> ConfigError:
    """Return the error of a place that holds another study, with what to choose in its stead."""
    return ConfigError(
        f'{where} holds a study of another space, config or schedule: choose another {another}, what is there stays'
    )


def folder_of(work_dir: Path, digest: str, chosen: Mapping[str, str]) -> Path:
    """Return the folder of a choice's training: the same for whoever tries it in this study, another in any other study."""
    return work_dir / TRIALS / digest / '_'.join(f'{name}-{chosen[name]}' for name in sorted(chosen))
