"""What is exported: a checkpoint, and the config of the run that wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from kddense.compat import load_checkpoint
from kddense.configs import config_from_text
from kddense.training.runs import read_run

from .errors import first_sentence
from .foreign_names import check_names


@dataclass(frozen=True)
class Source:
    """A checkpoint with the config of its run.

    Attributes:
        checkpoint: The file.
        contents: What it holds.
        config: The config of the run.
        config_file: The file that the config was read from, which may be the checkpoint.
    """

    checkpoint: Path
    contents: Mapping[str, Any]
    config: Config
    config_file: Path


def read_source(path: Path, config: Path | None = None, trust_checkpoint: bool = False) -> Source:
    """Read a checkpoint, and find the config that belongs to it.

    Args:
        path: A work_dir or a checkpoint.
        config: See :func:`kddense.export.export_student`.
        trust_checkpoint: See :func:`kddense.export.export_student`.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file cannot be read, or no config is found.
    """
    if not path.exists():
        raise FileNotFoundError(f'there is no work_dir and no checkpoint {path}')
    run = read_run(path, str(path)) if path.is_dir() else None
    checkpoint = path if run is None else run.checkpoint
    if checkpoint is None:
        raise FileNotFoundError(f'{path} holds no checkpoint (epoch_*.pth or iter_*.pth): is it the work_dir of a run?')
    contents = load_checkpoint(checkpoint, trust_checkpoint)

    if config is not None:
        return Source(checkpoint, contents, _read_config(config), config)
    if run is not None and run.config is not None and run.config_file is not None:
        return Source(checkpoint, contents, run.config, run.config_file)
    text = (contents.get('meta') or {}).get('cfg')
    if text is not None:
        return Source(checkpoint, contents, _config_in(checkpoint, text, trust_checkpoint), checkpoint)
    beside = checkpoint.with_suffix('.py')
    if beside.is_file():
        return Source(checkpoint, contents, _read_config(beside), beside)
    raise ValueError(f'{checkpoint} holds no config, and none lies beside it: pass --config')


def _read_config(file: Path) -> Config:
    if not file.is_file():
        raise FileNotFoundError(f'there is no config {file}')
    try:
        return Config.fromfile(file)
    except Exception as error:  # a config is code, which may fail in any way
        raise ValueError(f'the config {file} cannot be read: {first_sentence(error)}') from error


def _config_in(checkpoint: Path, text: str, trust: bool) -> Config:
    try:
        config = config_from_text(text)
        if not trust:
            check_names(config.to_dict())
        import_modules_from_strings(**config.get('custom_imports', {'imports': None}))
    except (ValueError, TypeError, ImportError) as error:
        raise ValueError(
            f'the config in {checkpoint} cannot be read ({error}): pass --config with a file of your own'
            + ('' if trust else ', or --trust-checkpoint if you trust its source')
        ) from error
    return config
