"""Whole training steps beside one another: the plain student's, with a teacher that is asked, with answers from disk."""

from __future__ import annotations

import itertools
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from kddense.apps.made_up_batch import made_up_batch
from kddense.apps.steps import build, one_exchange, optimizers_of, plain_forward, reference_teacher, step
from kddense.datasets import VARIANT
from kddense.exchange import Batch
from kddense.report.costs import median_ratio, timed
from kddense.teachers.cache import versions
from kddense.training.quantise import quantising_hook

ROWS = ('plain', 'quantised', 'online', 'compiled', 'cold', 'cached', 'fast', 'fast_compiled')
ASKED = ('plain', 'quantised', 'online', 'compiled')  # the others read
WORDS = {
    'plain': 'plain student, stock step',
    'quantised': 'the same, quantised',
    'online': 'teacher asked each time',
    'compiled': 'the same, both compiled',
    'cold': 'answers computed and written',
    'cached': 'answers read',
    'fast': 'answers read, student in bfloat16',
    'fast_compiled': 'the same, student compiled',
    'teacher': 'teacher alone, float32 forward',
}


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
            :class:`kddense.QuantiseHook` in the config.
        rounds: Each times every row once, in an order that turns.
        warmup: Rounds that are run and not counted.
        clock: See :func:`kddense.report.costs.timed`.

    Returns:
        For JSON: ``rows``, median milliseconds; ``to_plain``, the median over the rounds of each row's ratio to the plain
        step; ``to_parts``, to the plain step and one float32 forward of the teacher; ``memory``, the MiB that a step takes
        above what rests (CUDA); the machine and versions.
    """
    init_default_scope(config.get('default_scope', 'mmengine'))
    with _folder() as folder:
        steps = {name: _row(name, config, shape, device, folder) for name in dict.fromkeys(('plain', *rows))}
        steps['teacher'] = _teacher(config, shape, device)
        times: dict[str, list[float]] = {name: [] for name in steps}
        names = list(steps)
        for index in range(warmup + rounds):
            turn = index % len(names)
            for name in names[turn:] + names[:turn]:
                seconds = timed(steps[name], device, clock)
                if index >= warmup:
                    times[name].append(seconds * 1000)
        memory = {name: _memory(steps[name], device) for name in steps if device.startswith('cuda')}
    parts = [sum(pair) for pair in zip(times['plain'], times['teacher'], strict=True)]
    return dict(
        rows={name: statistics.median(values) for name, values in times.items()},
        to_plain={name: median_ratio(values, times['plain']) for name, values in times.items()},
        to_parts={name: median_ratio(values, parts) for name, values in times.items()},
        memory=memory,
        rounds=rounds,
        device=torch.cuda.get_device_name(device) if device.startswith('cuda') else device,
        threads=torch.get_num_threads(),
        machine=f'{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}',
        versions=versions(),
    )


def table(found: dict[str, Any]) -> str:
    """Return what was measured as lines of text."""
    lines = [f'{"":<36}{"ms":>10}{"/ plain":>10}{"/ (plain + teacher)":>21}']
    for name, milliseconds in found['rows'].items():
        lines.append(
            f'{WORDS[name]:<36}{milliseconds:10.1f}{found["to_plain"][name]:10.3f}{found["to_parts"][name]:21.3f}'
        )
    return '\n'.join(lines)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        yield Path(name)


def _row(name: str, config: Config, shape: tuple[int, int, int], device: str, folder: Path) -> Callable[[], None]:
    """Return a function that takes one step."""
    kept = None if name in ASKED else folder / name
    fast = name.startswith('fast')
    distiller = build(config.model, device, kept, compiled=name.endswith('compiled'))
    if fast:
        distiller.student.to(memory_format=torch.channels_last)
    batch = made_up_batch(distiller.student, shape, device)
    if fast:
        batch['inputs'] = batch['inputs'].contiguous(memory_format=torch.channels_last)
    optimizers = optimizers_of(distiller)
    model = distiller.student if name in ('plain', 'quantised') else distiller
    quantised = quantising_hook(config).attach(distiller.student) if name == 'quantised' else None
    numbers = itertools.count()

    def take() -> None:
        number = next(numbers)
        _number(batch['data_samples'], number if name == 'cold' else 0)
        if quantised is not None:
            quantised.begin_step(number)
        step(model, batch, optimizers, low=fast)
        if quantised is not None:
            quantised.end_step()

    return take


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


def _memory(take: Callable[[], None], device: str) -> float:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    rests = torch.cuda.memory_allocated(device)
    take()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - rests) / 2**20
