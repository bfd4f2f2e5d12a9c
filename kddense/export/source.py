"""What is exported: a checkpoint, and the config of the run that wrote it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from kddense.compat import load_checkpoint
from kddense.training.runs import read_run

from .errors import first_sentence


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
        return Source(checkpoint, contents, _config_in(checkpoint, text), checkpoint)
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


def _config_in(checkpoint: Path, text: str) -> Config:
    try:
        config = config_from_text(text)
    except ValueError as error:
        raise ValueError(f'the config in {checkpoint} cannot be read ({error}): pass --config') from error
    import_modules_from_strings(**config.get('custom_imports', {'imports': None}))
    return config


def config_from_text(text: str) -> Config:
    """Read what mmengine writes of a config into a checkpoint, as data: nothing of it is run.

    Args:
        text: Assignments of literals and of ``dict(...)``.

    Raises:
        ValueError: If there is anything else in it.
    """
    settings = {}
    try:
        for statement in ast.parse(text).body:
            if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
                raise ValueError(f'line {statement.lineno} is no assignment')
            settings[statement.targets[0].id] = ast.literal_eval(_DictsAsLiterals().visit(statement.value))
    except (SyntaxError, ValueError, TypeError) as error:
        raise ValueError(f'it is not plain data: {error}') from error
    return Config(settings)


class _DictsAsLiterals(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        names = [keyword.arg for keyword in node.keywords]
        if not isinstance(node.func, ast.Name) or node.func.id != 'dict' or node.args or None in names:
            return node  # which literal_eval refuses
        return ast.Dict([ast.Constant(name) for name in names], [keyword.value for keyword in node.keywords])
