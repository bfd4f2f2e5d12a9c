"""Predict what a step costs on many devices, from what was measured on one.

    kddense scale rows.json --gradients 54 --answers 4.2 --devices 1 8 64 1000

reads what ``kddense benchmark --rows plain online cached fast --json rows.json`` wrote, and prints the time of a step and
images a second of each row: gradients are averaged over all devices, teachers are asked by each device about its own images,
and answers are read from a disk. ``docs/scale.md`` has the formulas.

    kddense scale --measure 1 2 4 --config configs/hinton/hinton_r50_r18_pspnet_512x1024_cityscapes.py --shape 1 64 128

takes the steps in so many processes of this machine instead, and compares with what one process, and an exchange between
two, predict.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kddense.apps.command_line import (
    ConfigOptions,
    check_json,
    count,
    in_one_sentence,
    new_parser,
    number_above_0,
    number_from_0,
    write_json,
)
from kddense.errors import ConfigError

MEGA, GIGA = 1e6, 1e9
READ = ('cached', 'fast', 'fast_compiled')  # rows that read answers
BACKWARD = 2 / 3  # of a plain step: the part beside which gradients are exchanged


@dataclass(frozen=True)
class Pieces:
    """What was measured on one device.

    Attributes:
        rows: Seconds of a step by row, ``'plain'`` among them, with one device's share of the batch.
        images: In that share.
        gradients: Bytes of the gradients.
        answers: Bytes of the answers to one image.
    """

    rows: Mapping[str, float]
    images: int
    gradients: float = 0.0
    answers: float = 0.0


@dataclass(frozen=True)
class Machine:
    """What connects devices; bandwidths in bytes a second.

    Attributes:
        per_node: Devices of one node.
        inside: Bandwidth of each device to others of its node.
        between: Bandwidth of each node to others.
        latency: Seconds of one message between nodes.
        disk: Of each node's own disk; infinite where answers fit its memory.
        storage: Of the storage that all nodes share.
        overlap: The share of the backward pass beside which gradients are exchanged, 0 to 1.
        jitter: Standard deviation of a device's step, relative to it: all wait for the slowest.
        cores: Devices that can compute at the same time in a node: processes of a CPU share its cores.
    """

    per_node: int = 8
    inside: float = 300 * GIGA
    between: float = 25 * GIGA
    latency: float = 20e-6
    disk: float = 5 * GIGA
    storage: float = math.inf
    overlap: float = 0.8
    jitter: float = 0.02
    cores: float = math.inf


def exchange(size: float, devices: int, machine: Machine) -> float:
    """Return the seconds in which gradients are averaged: rings inside the nodes, then between them.

    Args:
        size: Bytes of the gradients.
        devices: How many devices there are.
        machine: What connects them.
    """
    inside = min(devices, machine.per_node)
    nodes = math.ceil(devices / machine.per_node)
    seconds = 2 * (inside - 1) / inside * size / machine.inside
    return (
        seconds + 2 * (nodes - 1) / nodes * size / machine.between + 2 * math.ceil(math.log2(nodes)) * machine.latency
    )


def predict(pieces: Pieces, machine: Machine, devices: int) -> dict[str, float]:
    """Return the seconds of a step by row on so many devices, each with as many images as was measured.

    Args:
        pieces: What one device takes.
        machine: What connects the devices.
        devices: How many there are.
    """
    here = min(devices, machine.per_node)
    sharing = max(1.0, here / machine.cores)
    slowest = 1 + machine.jitter * math.sqrt(2 * math.log(devices))
    hidden = machine.overlap * BACKWARD * pieces.rows['plain'] * sharing
    waiting = max(0.0, exchange(pieces.gradients, devices, machine) - hidden)
    asked = pieces.images * pieces.answers
    reading = max(here * asked / machine.disk, devices * asked / machine.storage)
    return {
        row: max(seconds * sharing * slowest, reading if row in READ else 0.0) + waiting
        for row, seconds in pieces.rows.items()
    }


def read_pieces(file: Path, step: int, gradients: float, answers: float) -> Pieces:
    """Read what ``kddense benchmark --rows`` wrote.

    Args:
        file: Its JSON, of one config or of several under ``steps``.
        step: Which of several.
        gradients: Bytes of the gradients.
        answers: Bytes of the answers to one image.

    Raises:
        ValueError: If it is none, or holds no such step.
    """
    try:
        found = json.loads(file.read_text())
        steps = found.get('steps', [found])
        if not 0 <= step < len(steps):
            raise ConfigError(f'--step {step}: {file} holds {len(steps)}, counted from 0')
        return _pieces(steps[step], gradients, answers)
    except ConfigError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ConfigError(
            f'{file} holds no rows of steps: write it with kddense benchmark --rows … --json ({error!r})'
        ) from error


def _pieces(found: Mapping[str, Any], gradients: float, answers: float) -> Pieces:
    rows = {name: float(value) / 1000 for name, value in found['rows'].items() if name != 'teacher'}
    images = int(found['shape'][0])
    faulty = [name for name, seconds in rows.items() if not 0 < seconds < math.inf] + ['shape'] * (images < 1)
    if faulty:
        raise ValueError(f'{faulty[0]} must be above 0')
    return Pieces({'plain': rows['plain'], **rows}, images, gradients, answers)


def table(pieces: Pieces, machine: Machine, devices: Sequence[int]) -> tuple[list[dict[str, Any]], str]:
    """Return predictions for JSON, and as text."""
    records, lines = [], [f'{"devices":>8}' + ''.join(f'{row:>22}' for row in pieces.rows)]
    for number in devices:
        seconds = predict(pieces, machine, number)
        records.append(
            dict(
                devices=number,
                seconds=seconds,
                images={row: number * pieces.images / one for row, one in seconds.items()},
            )
        )
        cells = (f'{1000 * one:.1f} ms, {number * pieces.images / one:,.0f}/s' for one in seconds.values())
        lines.append(f'{number:>8}' + ''.join(f'{cell:>22}' for cell in cells))
    return records, '\n'.join(lines)


@in_one_sentence()
def main(argv: Sequence[str] | None = None) -> None:
    """Predict, or measure and compare; print a table.

    Args:
        argv: The arguments; those of the process by default.
    """
    args = _parse_args(argv)
    check_json(args.json)
    if args.measure:
        from kddense.apps.processes import compared, measure_processes

        found: Any = measure_processes(args.config, tuple(args.shape), args.measure, args.rounds, args.cfg_options)
        text = compared(found)
    else:
        machine = Machine(
            args.per_node, args.inside * GIGA, args.between * GIGA, disk=args.disk * GIGA, storage=args.storage * GIGA
        )
        pieces = read_pieces(args.rows, args.step, args.gradients * MEGA, args.answers * MEGA)
        found, text = table(pieces, machine, args.devices)
    print(text)
    write_json(args.json, found)


def _bandwidth(text: str) -> float:
    return math.inf if text == 'inf' else number_above_0(text)


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    usual = Machine()
    parser = new_parser(__doc__)
    parser.add_argument('rows', nargs='?', type=Path, help='what kddense benchmark --rows … --json wrote')
    parser.add_argument('--step', type=int, default=0, help='which, if the file holds several')
    parser.add_argument(
        '--gradients', type=number_from_0, default=0.0, metavar='MB', help='of students: 4 bytes a weight'
    )
    parser.add_argument('--answers', type=number_from_0, default=0.0, metavar='MB', help='of one image in the cache')
    parser.add_argument('--devices', nargs='+', type=count, default=[1, 8, 64, 256, 1000])
    parser.add_argument('--per-node', type=count, default=usual.per_node)
    for name in ('inside', 'between', 'disk', 'storage'):
        default = getattr(usual, name) / GIGA
        parser.add_argument(
            f'--{name}', type=_bandwidth, default=default, metavar='GB/s', help=f'{default:g} by default'
        )
    parser.add_argument(
        '--measure', nargs='+', type=count, metavar='PROCESSES', help='take steps in so many, 1 among them'
    )
    parser.add_argument('--config', help='with --measure: a training config with a kddense.Distiller')
    parser.add_argument('--shape', nargs=3, type=count, default=[1, 64, 128], metavar=('N', 'H', 'W'))
    parser.add_argument('--rounds', type=count, default=10)
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, help='changes to the config')
    args = parser.parse_args(argv)
    if bool(args.measure) == bool(args.rows):
        parser.error('give a file of rows, or --measure')
    if args.measure and (not args.config or 1 not in args.measure):
        parser.error('--measure needs --config, and 1 among the numbers of processes')
    return args
