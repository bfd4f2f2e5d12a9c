"""Whole training steps beside one another: the plain student's, with a teacher that is asked, with answers from disk."""

from __future__ import annotations

import itertools
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope

from kddense.apps.made_up_batch import made_up_batch
from kddense.apps.steps import build, one_exchange, optimizers_of, plain_forward, reference_teacher, step
from kddense.datasets import VARIANT
from kddense.distiller import Distiller
from kddense.errors import ConfigError
from kddense.exchange import Batch
from kddense.report.costs import median_ratio, timed
from kddense.teachers import CachedTeacher
from kddense.teachers.cache import versions
from kddense.teachers.slow_precision import has_arithmetic
from kddense.training.quantised import quantising_hook

ASKED = ('plain', 'quantised', 'online', 'beside', 'weighed', 'compiled', 'graphs')  # the others read
ROWS = (*ASKED, 'cold', 'shared', 'cached', 'fast', 'fast_compiled')
ON_GPU = ('beside', 'graphs')
COMPILED: dict[str, bool | dict[str, Any]] = {
    'compiled': True,
    'graphs': dict(mode='reduce-overhead'),
    'fast_compiled': True,
}
STUDENTS = 3  # behind one teacher
MEASURING, BETWEEN = 0, 1  # iterations in which weights such as '10%' are measured, and are not
WORDS = {
    'plain': 'plain student, stock step',
    'quantised': 'the same, quantised',
    'online': 'teacher asked each time',
    'beside': 'the same, on a stream of its own',
    'weighed': 'teacher asked, weights measured',
    'compiled': 'teacher asked, both compiled',
    'graphs': 'the same, in CUDA graphs',
    'cold': 'answers computed and written',
    'shared': f'one of {STUDENTS} students writes, all read',
    'cached': 'answers read',
    'fast': 'answers read, student channels last',
    'fast_compiled': 'the same, student compiled',
    'teacher': 'teacher alone, float32 forward',
}

# Steps, and which share of them all each is: the time of a row is the mean.
Row = Sequence[tuple[float, Callable[[], None]]]


def measure_rows(
    config: Config,
    shape: tuple[int, int, int],
    device: str,
    rows: Sequence[str],
    rounds: int = 10,
    warmup: int = 2,
    clock: str = 'wall',
) -> dict[str, Any]:
    """Time whole steps on made-up images, interleaved, in one process; each row has a model of its own.

    Args:
        config: A training config whose model is a :class:`kddense.Distiller` with one teacher.
        shape: Images in a batch, height, width.
        device: ``'cpu'``, ``'cuda'``, …
        rows: Some of :data:`ROWS`; the plain step is taken in any case. ``'quantised'`` needs a
            :class:`kddense.QuantiseHook` in the config, ``'weighed'`` a weight such as ``'10%'``: it is the mean of a step
            that measures and all until the next one; other rows measure nothing. ``'shared'`` is the mean step of three
            students, of which the first asks the teacher and the others read, as in ``kddense measure --share-teacher``.
            ``'beside'`` (the teacher on a CUDA stream of its own) and ``'graphs'`` (both compiled, in CUDA graphs) need a
            GPU.
        rounds: Each times every row once, in an order that turns.
        warmup: Rounds that are run and not counted.
        clock: See :func:`kddense.report.costs.timed`.

    Returns:
        For JSON: ``rows``, median milliseconds; ``to_plain``, the median over the rounds of each row's ratio to the plain
        step; ``to_parts``, to the plain step and one float32 forward of the teacher; ``to_online``, to the step that asks
        the teacher, if that is among the rows; ``memory``, the MiB that a step takes above what rests (CUDA);
        ``fast_student``, the precision of the rows ``'fast'`` and ``'fast_compiled'``, bfloat16 where the device has
        arithmetic for it; the machine and versions.

    Raises:
        ValueError: If the config or the device lacks what a row needs.
    """
    for name in rows if torch.device(device).type != 'cuda' else ():
        if name in ON_GPU:
            raise ConfigError(f": the row '{name}' is one of a GPU: add --device cuda, or leave it out", '--rows')
    init_default_scope(config.get('default_scope', 'mmengine'))
    with _folder() as folder, _at(BETWEEN):
        steps = {name: _row(name, config, shape, device, folder) for name in dict.fromkeys(('plain', *rows))}
        steps['teacher'] = [(1, _teacher(config, shape, device))]
        times: dict[str, list[float]] = {name: [] for name in steps}
        names = list(steps)
        for index in range(warmup + rounds):
            turn = index % len(names)
            for name in names[turn:] + names[:turn]:
                seconds = sum(share * timed(take, device, clock) for share, take in steps[name])
                if index >= warmup:
                    times[name].append(seconds * 1000)
        memory = {name: _memory(steps[name], device) for name in steps if device.startswith('cuda')}
    parts = [sum(pair) for pair in zip(times['plain'], times['teacher'], strict=True)]
    return dict(
        rows={name: statistics.median(values) for name, values in times.items()},
        to_plain={name: median_ratio(values, times['plain']) for name, values in times.items()},
        to_parts={name: median_ratio(values, parts) for name, values in times.items()},
        to_online={name: median_ratio(values, times['online']) for name, values in times.items() if 'online' in times},
        memory=memory,
        rounds=rounds,
        device=torch.cuda.get_device_name(device) if device.startswith('cuda') else device,
        threads=torch.get_num_threads(),
        fast_student='bf16' if _fast_in_bfloat16(device) else 'fp32',
        machine=f'{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}',
        versions=versions(),
    )


def table(found: dict[str, Any]) -> str:
    """Return what was measured as lines of text."""
    online = found['to_online']
    lines = [f'{"":<38}{"ms":>10}{"/ plain":>10}{"/ (plain + teacher)":>21}' + (f'{"/ asked":>10}' if online else '')]
    for name, milliseconds in found['rows'].items():
        ratios = f'{found["to_plain"][name]:10.3f}{found["to_parts"][name]:21.3f}'
        low = name == 'fast' and found['fast_student'] == 'bf16'
        words = 'answers read, student in bfloat16' if low else WORDS[name]
        lines.append(f'{words:<38}{milliseconds:10.1f}{ratios}' + (f'{online[name]:10.3f}' if online else ''))
    return '\n'.join(lines)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        yield Path(name)


def _at(iteration: int) -> AbstractContextManager:
    """Let steps be of an iteration, as a run would tell it."""
    return patch.dict(MessageHub.get_current_instance().runtime_info, iter=iteration)


def _row(name: str, config: Config, shape: tuple[int, int, int], device: str, folder: Path) -> Row:
    """Return the steps of a row."""
    kept = None if name in ASKED else folder / name
    distiller = build(config.model, device, kept, COMPILED.get(name, False), side_stream=name == 'beside')
    take = _step(name, distiller, config, shape, device)
    numbers = itertools.count()
    if name == 'weighed':
        every = _every(distiller)
        return [(1 / every, partial(_measuring, take)), (1 - 1 / every, take)]
    if name == 'cold':
        return [(1, lambda: take(next(numbers)))]
    if name == 'shared':
        twice = (number // 2 for number in numbers)
        return [(1 / STUDENTS, lambda: take(next(twice))), (1 - 1 / STUDENTS, lambda: take(next(twice)))]
    if kept is not None:
        take()
        _write_out(distiller)
    return [(1, take)]


def _write_out(distiller: Distiller) -> None:
    """Write answers that wait in memory for others to share their file, so that they are read from disk."""
    for teacher in distiller.teachers.values():
        if isinstance(teacher, CachedTeacher) and teacher.asked:
            teacher.store.flush()


def _step(
    name: str, distiller: Distiller, config: Config, shape: tuple[int, int, int], device: str
) -> Callable[..., None]:
    """Return a function that takes one step of a variant of the images."""
    fast = name.startswith('fast')
    low = fast and _fast_in_bfloat16(device)
    if fast:
        distiller.student.to(memory_format=torch.channels_last)
    batch = made_up_batch(distiller.student, shape, device)
    if fast:
        batch['inputs'] = batch['inputs'].contiguous(memory_format=torch.channels_last)
    optimizers = optimizers_of(distiller)
    model = distiller.student if name in ('plain', 'quantised') else distiller
    quantised = quantising_hook(config).attach(distiller.student) if name == 'quantised' else None
    numbers = itertools.count()

    def take(variant: int = 0) -> None:
        _number(batch['data_samples'], variant)
        if quantised is not None:
            quantised.begin_step(next(numbers))
        step(model, batch, optimizers, low=low)
        if quantised is not None:
            quantised.end_step()

    return take


def _fast_in_bfloat16(device: str) -> bool:
    return has_arithmetic(torch.bfloat16, torch.device(device))


def _every(distiller: Distiller) -> int:
    """Return how many iterations lie between two measurements of weights, the fewest if objectives differ.

    Raises:
        ConfigError: If no weight is measured.
    """
    found = [one.share.every for one in distiller.named_objectives.values() if one.share is not None]
    if not found:
        raise ConfigError(
            ": no weight sets itself, so the row 'weighed' has nothing to measure: give one, such as "
            "--cfg-options model.objectives.NAME.weight='10%'",
            'model.objectives',
        )
    return min(found)


def _measuring(take: Callable[[], None]) -> None:
    with _at(MEASURING):
        take()


def _number(samples: Sequence[Any], variant: int) -> None:
    """Let data samples say which variant of an image they are."""
    for image, sample in enumerate(samples):
        said = dict(image=image, variant=variant, images=len(samples), variants=1, seed=0, pipeline='')
        sample.set_metainfo({VARIANT: dict(said, pixels=f'{image} {variant}')})


def _teacher(config: Config, shape: tuple[int, int, int], device: str) -> Callable[[], None]:
    distiller = build(config.model, device)
    batch = made_up_batch(distiller.student, shape, device)
    reference = reference_teacher(config.model, device, distiller.image_format)
    _, _, question = one_exchange(distiller, batch)
    images, _ = reference.images.of(Batch(**batch, image_format=distiller.image_format))
    return lambda: plain_forward(reference, question, images)


def _memory(row: Row, device: str) -> float:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    rests = torch.cuda.memory_allocated(device)
    for _, take in row:
        take()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - rests) / 2**20
