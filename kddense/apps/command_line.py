"""What the subcommands share: arguments of mmdet's and mmseg's scripts, and the runner they lead to."""

from __future__ import annotations

import argparse
import difflib
import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from kddense.configs import find_config, read_config_file
from kddense.errors import ConfigError, in_worker, is_of_config, told, within

from .needed import check_packages
from .noise import QuietRunner, ignore_known_warnings


class Parser(argparse.ArgumentParser):
    """Argparse's own, which beside an option that there is not names the one that was meant."""

    def error(self, message: str) -> NoReturn:
        """End the program with what is wrong, and with near options if it is one that nobody knows."""
        unknown = [word.partition('=')[0] for word in message.split() if word.startswith('--')]
        if not message.startswith('unrecognized arguments') or not unknown:
            super().error(message)
        near = difflib.get_close_matches(unknown[0], self._option_string_actions, n=1)
        super().error(f'{message}; did you mean {near[0]}?' if near else message)


def new_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the description as it is written, which calls itself what it was called by."""
    return Parser(
        prog=os.path.basename(sys.argv[0]),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


@contextmanager
def in_one_sentence(config: Any = None) -> Iterator[None]:
    """Context manager, or decorator: what is wrong with an input ends the program in one sentence, with the status 1.

    An error in what runs keeps its traceback.

    Args:
        config: What is built of which, if it is known: the key of the part that an error came out of is named.
    """
    try:
        yield
    except (ConfigError, OSError, ImportError) as error:
        sys.exit(f'error: {in_worker(error)}')
    except Exception as error:
        if not is_of_config(error):
            raise
        sys.exit(f'error: {told(error, "", config)}')


def check_json(file: Path | None) -> None:
    """Check, before what takes long, that the file of ``--json`` can be written; nothing if none was asked for.

    Raises:
        ConfigError: If its folder is absent.
    """
    if file and not file.absolute().parent.is_dir():
        raise ConfigError(f'--json: there is no folder {file.parent}')


def write_json(file: Path | None, found: Any) -> None:
    """Write what was found to the file of ``--json``, if one was asked for."""
    if file:
        file.write_text(json.dumps(found, indent=2) + '\n')


def count(text: str) -> int:
    """Read an argument that counts something: a whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'must be a whole number, got {text!r}') from None
    if number < 1:
        raise argparse.ArgumentTypeError(f'must be at least 1, got {number}')
    return number


def number_above_0(text: str) -> float:
    """Read an argument that is a finite number above 0."""
    number = _number(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f'must be a number above 0, got {text!r}')
    return number


def number_from_0(text: str) -> float:
    """Read an argument that is a finite number of at least 0."""
    number = _number(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f'must be a number of at least 0, got {text!r}')
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def option_fault(text: str) -> str:
    """Return what is wrong with an option of ``--cfg-options``, the empty text if nothing."""
    key, separator, _ = text.partition('=')
    return '' if separator and key else f"must be key=value, got '{text}'"


class ConfigOptions(DictAction):
    """mmengine's ``DictAction``; what is no ``key=value`` is told as other arguments are."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        for one in values:
            if fault := option_fault(one):
                parser.error(f'argument {option_string}: {fault}')
        super().__call__(parser, namespace, values, option_string)


def change_config(config: Config, changes: Any) -> None:
    """Make the changes of ``--cfg-options`` in a config."""
    with within('--cfg-options'):
        config.merge_from_dict(changes)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what training and testing both take, under the names that the stock scripts gave it."""
    parser.add_argument('--work-dir', help='where the results go; work_dirs/<config> by default')
    parser.add_argument(
        '--cfg-options', nargs='+', action=ConfigOptions, default={}, help='changes to the config, key=value'
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by launchers')


def read_config(args: argparse.Namespace) -> Config:
    """Read ``args.config`` with the changes that the common arguments make to it."""
    ignore_known_warnings()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    config = read_config_file(find_config(args.config))
    config.launcher = args.launcher
    change_config(config, args.cfg_options)
    if 'model' not in config:
        raise ConfigError(f"'{args.config}' holds no model: it is no config to train or test by")
    check_packages(config)
    config.work_dir = args.work_dir or config.get('work_dir') or str(Path('work_dirs') / Path(args.config).stem)
    return config


def build_runner(config: Config) -> Runner:
    """Build the runner that a config asks for; by default mmengine's own, less the known noise of its log."""
    with within('', config):
        return RUNNERS.build(config) if 'runner_type' in config else QuietRunner.from_cfg(config)
