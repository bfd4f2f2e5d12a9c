"""Time a distillation step against the plain student's step and the teacher's forward.

    kddense benchmark --config configs/hinton/hinton_r50_r18_pspnet_512x1024_cityscapes.py --shape 2 256 512

Prints medians of interleaved rounds on made-up images, the ratio step / (student + teacher in float32), each objective's
share and the peak memory. Weights do not matter: no checkpoint is needed. With ``--rows`` it compares whole steps, the plain
student's stock step first: the teacher asked each time, its answers kept on disk (``cold``: none is there; ``cached``: all
are), and that with a student channels last and, where the device has arithmetic for it, in bfloat16 (``fast``). ``shared``
is the mean step of three students behind one teacher, ``weighed`` that of weights such as ``'10%'``, which are measured once
in a while. ``quantised`` is the plain student's step with the weights of the config's QuantiseHook. ``compiled`` compiles
teacher and student; on a GPU, ``graphs`` does so into CUDA graphs, and ``beside`` asks the teacher on a CUDA stream of its
own. ``--views`` times the reading of training images instead, with so many variants behind each decoding.

With ``--onnx`` it times files of ``kddense export --onnx`` instead, and says the ratio of each to the first:

    kddense benchmark --onnx exported/my_student.onnx exported/my_student.int8.onnx --shape 1 480 640 --threads 2
"""

from __future__ import annotations

import argparse
import resource
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from kddense.apps import loading
from kddense.apps.command_line import (
    ConfigOptions,
    change_config,
    check_json,
    count,
    in_one_sentence,
    new_parser,
    write_json,
)
from kddense.apps.made_up_batch import made_up_batch
from kddense.apps.onnx_latency import measure_files
from kddense.apps.onnx_latency import table as onnx_table
from kddense.apps.step_rows import ROWS, measure_rows, table
from kddense.apps.steps import build, check_config, one_exchange, optimizers_of, plain_forward, reference_teacher, step
from kddense.configs import find_config, read_config_file
from kddense.distiller import Distiller
from kddense.errors import ConfigError
from kddense.exchange import Answer, Batch
from kddense.models import ClassQueue, MemoryBank
from kddense.report.costs import CLOCKS, timed
from kddense.taps import map_tensors


@dataclass(frozen=True)
class Costs:
    """Medians over the rounds, in milliseconds.

    Attributes:
        student: The plain student's step: forward, backward, optimiser.
        teacher: One plain float32 forward of the parts that the objectives listen to, in PyTorch's usual memory format.
        step: The whole distillation step.
        ratio: ``step / (student + teacher)``, the median of the rounds' ratios: 1 is a toolkit that costs nothing.
        objectives: Forward and backward of each objective alone.
        peak_memory: Most memory that the device held during one whole step (CUDA; the reference teacher's weights
            counted in), or that the process ever held (CPU), in MiB.
        rounds: How many rounds were timed.
    """

    student: float
    teacher: float
    step: float
    ratio: float
    objectives: dict[str, float]
    peak_memory: float
    rounds: int

    def as_dict(self) -> dict[str, Any]:
        """Return the costs for JSON."""
        return asdict(self)


def measure(
    config: Config,
    shape: tuple[int, int, int],
    device: str = 'cpu',
    rounds: int = 10,
    warmup: int = 2,
    clock: str = 'wall',
) -> Costs:
    """Time the steps of a distillation config on made-up images, interleaved, in one process.

    Args:
        config: A training config whose model is a :class:`kddense.Distiller` with one teacher. Weights do not matter
            here: no checkpoint is loaded.
        shape: Images in a batch, height, width.
        device: ``'cpu'``, ``'cuda'``, …
        rounds: Each times every piece once.
        warmup: Rounds that are run and not counted.
        clock: See :func:`kddense.report.costs.timed`.
    """
    init_default_scope(config.get('default_scope', 'mmengine'))
    distiller = build(config.model, device)
    reference = reference_teacher(config.model, device, distiller.image_format)
    batch = made_up_batch(distiller.student, shape, device)
    optimizers = optimizers_of(distiller)
    seen, taught, question = one_exchange(distiller, batch)
    _fill_memories(distiller)
    seen = _detached(seen)
    images, _ = reference.images.of(Batch(**batch, image_format=distiller.image_format))

    pieces: dict[str, Callable[[], object]] = {
        'student': lambda: step(distiller.student, batch, optimizers),
        'teacher': lambda: plain_forward(reference, question, images),
        'step': lambda: step(distiller, batch, optimizers),
    }
    for name, objective in distiller.objectives.items():
        pieces[f'objective {name}'] = partial(_objective_alone, objective, seen, taught)
    times: dict[str, list[float]] = {name: [] for name in pieces}
    for index in range(warmup + rounds):
        for name, piece in pieces.items():
            seconds = timed(piece, device, clock)
            if index >= warmup:
                times[name].append(seconds * 1000)
    ratios = [
        step / (student + teacher)
        for student, teacher, step in zip(times['student'], times['teacher'], times['step'], strict=True)
    ]
    medians = {name: statistics.median(values) for name, values in times.items()}
    return Costs(
        student=medians['student'],
        teacher=medians['teacher'],
        step=medians['step'],
        ratio=statistics.median(ratios),
        objectives={name: medians[f'objective {name}'] for name in distiller.objectives},
        peak_memory=_peak_memory(pieces['step'], device),
        rounds=rounds,
    )


def _fill_memories(distiller: Distiller) -> None:
    """Let memories hold as much as after a long training: how many vectors a step is compared with depends on it."""
    for part in distiller.objectives.modules():
        if isinstance(part, MemoryBank):
            free = part.vectors[len(part.ids) :]
            part.update([f'made up {number}' for number in range(len(free))], free.clone())
        if isinstance(part, ClassQueue):
            classes, _, dim = part.vectors.shape
            labels = torch.arange(classes).repeat_interleave(part.size)
            part.add(labels, nn.functional.normalize(torch.randn(len(labels), dim), dim=1))


def _objective_alone(objective: nn.Module, seen: Answer, taught: Answer) -> None:
    objective.zero_grad()
    losses = [value for key, value in objective(_detached(seen), taught).items() if 'loss' in key]
    sum(losses[1:], losses[0]).backward()


def _detached(seen: Answer) -> Answer:
    """Cut what a student showed off the student, so that its activations are not kept."""
    opinions = {
        kind: [replace(opinion, **map_tensors(_leaf, vars(opinion))) for opinion in group]
        for kind, group in seen.opinions.items()
    }
    taps, losses = (map_tensors(_leaf, dict(values)) for values in (seen.taps, seen.losses))
    return replace(seen, taps=taps, opinions=opinions, losses=losses)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(tensor.is_floating_point())


def _peak_memory(step: Callable[[], object], device: str) -> float:
    if device.startswith('cuda'):
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@in_one_sentence()
def main(argv: Sequence[str] | None = None) -> None:
    """Time the steps of a config, and print the medians.

    Args:
        argv: The arguments; those of the process by default.
    """
    args = _parse_args(argv)
    check_json(args.json)
    found, text = _of_files(args) if args.onnx else _of_config(args)
    print(text)
    write_json(args.json, found)


def _of_files(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    figures = measure_files(args.onnx, tuple(args.shape), args.rounds, args.threads or 0, args.clock)
    return figures, onnx_table(figures)


def _of_config(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Return what was asked for of a config, for JSON and as text."""
    if args.threads:
        torch.set_num_threads(args.threads)
    config = read_config_file(find_config(args.config), '--config')
    change_config(config, args.cfg_options)
    setting = {'config': args.config, 'options': dict(args.cfg_options), 'clock': args.clock}
    if args.views:
        read = loading.measure_loading(config, args.views, args.rounds, clock=args.clock)
        return {**setting, **read}, loading.table(read)
    check_config(config, args.config)
    _check_device(args.device)
    setting['shape'] = args.shape
    if args.rows:
        rows = measure_rows(config, tuple(args.shape), args.device, args.rows, args.rounds, clock=args.clock)
        return {**setting, **rows}, table(rows)
    costs = measure(config, tuple(args.shape), args.device, args.rounds, clock=args.clock)
    setting |= {'device': args.device, 'threads': torch.get_num_threads()}
    return {**setting, **costs.as_dict()}, _report(costs)


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition('. ')[0]
        raise ConfigError(f': PyTorch has no device {device!r} here ({reason})', '--device') from error


def _report(costs: Costs) -> str:
    lines = [
        f'plain student, one step        {costs.student:9.1f} ms',
        f'teacher, float32 forward       {costs.teacher:9.1f} ms',
        f'distillation, one step         {costs.step:9.1f} ms',
        f'step / (student + teacher)     {costs.ratio:9.3f}',
        f'peak memory                    {costs.peak_memory:9.0f} MiB',
    ]
    for name, milliseconds in costs.objectives.items():
        share = 100 * milliseconds / costs.step
        lines.append(f'objective {name:<20} {milliseconds:9.1f} ms, {share:.1f} % of the step')
    return '\n'.join(lines)


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    timed = parser.add_mutually_exclusive_group(required=True)
    timed.add_argument('--config', help='a training config with a kddense.Distiller, or of any model')
    timed.add_argument('--onnx', nargs='+', type=Path, help='ONNX files to time instead, on random images')
    parser.add_argument('--shape', nargs=3, type=count, default=[2, 320, 320], metavar=('N', 'H', 'W'))
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--rounds', type=count, default=10)
    parser.add_argument(
        '--threads', type=count, help="PyTorch's or onnxruntime's on the CPU; their own choice by default"
    )
    parser.add_argument(
        '--clock', choices=CLOCKS, default='wall', help="'cpu': the processors' time, for busy machines"
    )
    parser.add_argument('--rows', nargs='+', choices=ROWS, help="compare such steps with the plain student's")
    parser.add_argument(
        '--views', nargs='+', type=count, metavar='V', help='time the reading of images, V of them behind each decoding'
    )
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, help='changes to the config')
    args = parser.parse_args(argv)
    if args.views and args.rows:
        parser.error('--views times the reading of images, --rows steps: give one of the two')
    return args
