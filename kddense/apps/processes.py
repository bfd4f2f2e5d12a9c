"""Steps taken in several processes of one machine, beside what the cost model says of them."""

from __future__ import annotations

import copy
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import distributed, nn

from kddense.apps.command_line import change_config
from kddense.apps.made_up_batch import made_up_batch
from kddense.apps.scale import Machine, Pieces, predict
from kddense.apps.steps import build, check_config, optimizers_of, step
from kddense.configs import find_config, read_config_file
from kddense.teachers.cache import versions

ROWS = ('plain', 'online')
WARMUP = 2


def measure_processes(
    name: str,
    shape: tuple[int, int, int],
    numbers: Sequence[int],
    rounds: int = 10,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Take steps in one process and in several (gloo, one thread each), and predict them from one process.

    Times are the processors' time of a process, which counts what it computes and copies and not what it waits for: that
    comes out alike on busy machines, and where processes are more than cores.

    Args:
        name: A training config whose model is a :class:`kddense.Distiller`.
        shape: Images of each process, height, width.
        numbers: Of processes, 1 among them.
        rounds: Each takes every row once.
        options: Changes to the config.

    Returns:
        For JSON: ``measured`` and ``predicted``, seconds by row and by number of processes; ``error``, the one relative to
        the other, of the numbers above 1; what was predicted from; the machine and versions.
    """
    config = read_config_file(find_config(name), '--config')
    change_config(config, options or {})
    check_config(config, name, alone=False)
    measured = {number: _in_processes(number, config, shape, rounds) for number in sorted({*numbers, 2})}
    gradients = measured[2].pop('gradients')
    seconds = measured[2].pop('exchange')
    pieces = Pieces({row: measured[1][row] for row in ROWS}, shape[0], gradients)
    # In two processes each sends and receives as many bytes as there are.
    machine = Machine(per_node=max(numbers), inside=gradients / seconds, overlap=0.0, jitter=0.0)
    predicted = {number: predict(pieces, machine, number) for number in numbers}
    found = {number: {row: measured[number][row] for row in ROWS} for number in numbers}
    return dict(
        config=name,
        options=dict(options or {}),
        shape=list(shape),
        rounds=rounds,
        measured=found,
        predicted=predicted,
        error={
            number: {row: predicted[number][row] / found[number][row] - 1 for row in ROWS}
            for number in numbers
            if number > 1
        },
        pieces=asdict(pieces),
        bandwidth=machine.inside,
        machine=f'{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}',
        versions=versions(),
    )


def compared(found: Mapping[str, Any]) -> str:
    """Return what was measured and predicted as lines of text."""
    lines = [f'{"processes":>10}{"row":>10}{"measured":>12}{"predicted":>12}{"error":>9}']
    for number, rows in found['measured'].items():
        for row, seconds in rows.items():
            predicted = found['predicted'][number][row]
            error = f'{100 * (predicted / seconds - 1):+.1f} %'
            lines.append(f'{number:>10}{row:>10}{1000 * seconds:9.1f} ms{1000 * predicted:9.1f} ms{error:>9}')
    return '\n'.join(lines)


def _in_processes(number: int, config: Config, shape: tuple[int, int, int], rounds: int) -> dict[str, float]:
    """Return what the first of so many processes measures."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = (number, config, shape, rounds, Path(folder))
        torch.multiprocessing.start_processes(_run, arguments, nprocs=number, start_method='fork')
        return torch.load(Path(folder, 'times.pth'), weights_only=True)


def _run(rank: int, number: int, config: Config, shape: tuple[int, int, int], rounds: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group('gloo', rank=rank, world_size=number, init_method=f'file://{folder / "store"}')
    init_default_scope(config.get('default_scope', 'mmengine'))
    times = _times(config, shape, rounds)
    if rank == 0:
        torch.save(times, folder / 'times.pth')
    distributed.barrier()
    distributed.destroy_process_group()


def _times(config: Config, shape: tuple[int, int, int], rounds: int) -> dict[str, float]:
    """Return the medians of the processors' seconds of each row, and of averaging the gradients alone; and their bytes."""
    distiller = build(config.model, 'cpu')
    student = copy.deepcopy(distiller.student)
    batch = made_up_batch(distiller.student, shape, 'cpu')
    pieces: dict[str, Callable[[], Any]] = {}
    plain: list[torch.optim.Optimizer] = [torch.optim.SGD(student.parameters(), lr=1e-4, momentum=0.9)]
    for row, model, optimizers in (('plain', student, plain), ('online', distiller, optimizers_of(distiller))):
        pieces[row] = partial(step, _parallel(model), batch, optimizers)
    size = 4 * sum(one.numel() for one in student.parameters() if one.requires_grad)
    gradients = torch.zeros(size // 4)
    pieces['exchange'] = lambda: distributed.all_reduce(gradients)
    times: dict[str, list[float]] = {name: [] for name in pieces}
    for index in range(WARMUP + rounds):
        for name, piece in pieces.items():
            begun = time.process_time()
            piece()
            if index >= WARMUP:
                times[name].append(time.process_time() - begun)
    return {**{name: statistics.median(values) for name, values in times.items()}, 'gradients': float(size)}


def _parallel(model: Any) -> Any:
    """Return a model that averages its gradients over the processes, as :func:`kddense.apps.steps.step` calls it."""
    if distributed.get_world_size() == 1:
        return model
    parallel: Any = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    parallel.parse_losses = model.parse_losses
    return parallel
