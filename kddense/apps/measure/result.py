"""One run's result: a small file that can be committed on its own, and made one table of with others."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from kddense.files import write_whole

SAME_TIME = 'plain, same time'
ROLES = ('plain', SAME_TIME, 'distilled', 'continued', 'teacher')


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        config: The config that was trained.
        role: One of :data:`ROLES`.
        seed: Its seed.
        steps: Iterations, or epochs, that it was trained for.
        scores: Test metrics by name, percentages from 0 to 100; depth metrics as they are.
        seconds: Wall time of the training.
        parameters: Of the student, or the teacher.
        setting: Data, splits and sizes, see :func:`kddense.training.settings.setting_of`.
        machine: Processor and PyTorch's version.
        commands: What was run.
        begins_from: The config whose student of the same seed it went on from; empty if it began as its config says.
        time_of: Of a plain student with the same time: the row whose time it is; empty if it stands for all.
        images: The file with each test image's share of the metric, beside this one; empty if there is none.
    """

    config: str
    role: str
    seed: int
    steps: int
    scores: dict[str, float]
    seconds: float = 0.0
    parameters: int = 0
    setting: dict[str, Any] = field(default_factory=dict)
    machine: str = ''
    commands: list[str] = field(default_factory=list)
    begins_from: str = ''
    time_of: str = ''
    images: str = ''

    @property
    def label(self) -> str:
        """What a message calls it."""
        return f'{self.config}, seed {self.seed}'


def write_result(result: Result, path: Path) -> None:
    """Write it whole or not at all."""
    write_whole(path, (json.dumps(asdict(result), indent=2, ensure_ascii=False) + '\n').encode())


def read_result(path: Path) -> Result:
    """Read one.

    Raises:
        ValueError: If the file is no result: what is wrong with it.
    """
    try:
        contents = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f'{path} is no JSON ({error}): delete it and run again') from None
    names = {item.name for item in fields(Result)}
    needed = {'config', 'role', 'seed', 'steps', 'scores'}
    if not isinstance(contents, Mapping) or not needed <= contents.keys() <= names:
        raise ValueError(f'{path} is not the result of a run: it needs {", ".join(sorted(needed))}')
    if contents['role'] not in ROLES:
        raise ValueError(f'{path}: role must be one of {", ".join(ROLES)}, got {contents["role"]!r}')
    return Result(**contents)


def this_machine() -> str:
    """Return processor and PyTorch's version, nothing that names the machine."""
    import torch

    if torch.cuda.is_available():
        return f'{torch.cuda.get_device_name()}, PyTorch {torch.__version__}'
    threads = torch.get_num_threads()
    return f'{_processor()}, {threads} thread{"s" if threads > 1 else ""}, PyTorch {torch.__version__}'


def _processor() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.machine()
