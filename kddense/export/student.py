"""The export from its beginning to its end."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kddense.exchange import ImageFormat
from kddense.quantisation.scales import LayerScales, scales_of
from kddense.training.quantised import drop_quantising

from .checkpoint import load_student, plain_meta
from .files import Targets
from .image_size import example_size
from .images import image_files, read_images
from .int8 import Int8Report, check_runs, quantise_onnx
from .onnx import OnnxOptions, OnnxReport, require_onnx, write_onnx
from .plain_config import PlainConfig
from .qdq import check_scales, write_learned
from .quantised import quantise_student
from .source import read_source

COMPARED = 20  # of the images of a folder, for each is predicted twice


@dataclass(frozen=True)
class Exported:
    """What :func:`export_student` wrote.

    Attributes:
        source: The checkpoint that the weights are from.
        files: The files written.
        notes: What is worth knowing, a sentence each.
        onnx: What was found out about the ONNX file, if there is one.
        int8: What was found out about the INT8 file, if there is one.
    """

    source: Path
    files: tuple[Path, ...]
    notes: tuple[str, ...]
    onnx: OnnxReport | None = None
    int8: Int8Report | None = None


def export_student(
    source: str | Path,
    out: str | Path,
    config: str | Path | None = None,
    ema: bool = False,
    onnx: bool = False,
    shape: Sequence[int] | None = None,
    force: bool = False,
    trust_checkpoint: bool = False,
    quantised: bool = False,
    calibrate: int | None = None,
    outputs: str = 'results',
    dynamic: str = 'size',
    padded: bool = False,
    int8: bool = False,
    images: str | Path | None = None,
) -> Exported:
    """Write the student of a run as if there had never been a teacher: weights, config, and if asked for ONNX.

    Everything is written aside, checked, and only then moved to its place.

    Args:
        source: A work_dir, whose last checkpoint is taken, or a checkpoint.
        out: The checkpoint to write, ``*.pth``; the config goes beside it as ``*.py``, ONNX as ``*.onnx``.
        config: The config of the run, or the plain student's. By default a work_dir's own; a checkpoint's is the one in
            its meta, by which it was trained, or else the file beside it with its name.
        ema: Export the averaged weights of mmengine's ``EMAHook`` in place of the trained ones.
        onnx: Also write an ONNX file, and compare it with PyTorch on random images.
        shape: Height and width of the images for that; by default what the config crops or resizes to.
        force: Overwrite earlier exports.
        trust_checkpoint: Load a checkpoint that holds pickled code, and let the config in its meta name what it likes. Only
            for files whose source you trust.
        quantised: Write the weights as the run's :class:`kddense.QuantiseHook` rounds them, in place of the float ones,
            and the scales of its activations.
        calibrate: With ``quantised``, find these scales on so many batches of training images, which a student that was
            trained without the hook needs.
        outputs: What the ONNX file gives: ``'results'`` (boxes after suppression, class maps, metres), ``'raw'`` (all
            boxes, logits), or ``'features'`` (the maps of the neck).
        dynamic: What of its images may vary: their number and ``'size'``, their number (``'batch'``), or ``'none'``.
        padded: Whether it also takes the sizes of images without their padding, at whose borders boxes are cut.
        int8: Also write the ONNX file in 8 bits, ``*.int8.onnx``.
        images: A folder of images like those that it will see: it is compared with PyTorch on some of them. The scales in
            8 bits are from them, unless the run learned its own or ``calibrate`` finds them.

    Returns:
        The files written and what is worth knowing about them.

    Raises:
        ValueError: If config, checkpoint and options do not fit together.
        FileNotFoundError: If there is no such work_dir or file, or no checkpoint in it.
        FileExistsError: If a file would be overwritten.
        OSError: If the target cannot be written to.
        ImportError: If ONNX is asked for and its packages are not installed.
        RuntimeError: If the student cannot be exported to ONNX, or the file gives other values than PyTorch.
    """
    if calibrate is not None and not quantised:
        raise ValueError('calibrate: scales belong to quantised weights: add --quantised')
    targets = Targets.beside(Path(out), onnx, int8)
    targets.check(force)
    if onnx:
        require_onnx()
    else:
        _check_none(
            {
                '--shape': shape,
                '--outputs': outputs != 'results',
                '--dynamic': dynamic != 'size',
                '--padded': padded,
                '--int8': int8,
                '--images': images is not None,
            }
        )
    files = [] if images is None else image_files(Path(images))
    run = read_source(Path(source), None if config is None else Path(config), trust_checkpoint)
    targets.check_inputs(run.checkpoint, run.config_file)
    settings = copy.deepcopy(run.config)
    if quantised:
        drop_quantising(settings)  # which PlainConfig would say rounds nothing
    plain = PlainConfig.of(settings)
    meta = plain_meta(run.contents, plain.text())
    size = example_size(plain.settings, shape) if onnx else (0, 0)
    options = OnnxOptions(size, outputs, dynamic, padded, tuple(files[:COMPARED]))
    student = load_student(plain.settings, run, ema)
    notes: list[str] = []
    kept: dict[str, Any] = {}
    if quantised:
        told, kept = quantise_student(student, run.config, run.contents, calibrate)
        notes.append(told)
    scales = _scales_in({**run.contents, **kept}, run.checkpoint, student, on_images=bool(files)) if int8 else {}

    report = eight = None
    with targets.written_aside() as aside:
        torch.save(dict(meta=meta, state_dict=student.state_dict(), **kept), aside.checkpoint)
        plain.write(aside.config)
        if aside.onnx is not None:
            report = write_onnx(student, aside.onnx, options, meta)
        if aside.int8 is not None and aside.onnx is not None:
            if scales:
                eight = write_learned(aside.onnx, aside.int8, scales, student.state_dict())
            else:
                pixels = ImageFormat.of(student.data_preprocessor)
                eight = quantise_onnx(aside.onnx, aside.int8, read_images(files, size, pixels))
            check_runs(aside.int8, size)
    average_is_left = 'ema_state_dict' in run.contents and not ema
    return Exported(run.checkpoint, targets.files, (*notes, *_notes(plain, targets, average_is_left)), report, eight)


def _check_none(given: Mapping[str, Any]) -> None:
    """Refuse options of the ONNX file where there is to be none."""
    for option, value in given.items():
        if value:
            raise ValueError(f'{option} is for the ONNX file: pass --onnx too')


def _scales_in(
    contents: Mapping[str, Any], checkpoint: Path, student: nn.Module, on_images: bool
) -> dict[str, LayerScales]:
    """Return the scales that a run learned or was calibrated with; nothing if there are none, but images for them."""
    try:
        scales = scales_of(contents, student.state_dict())
    except ValueError:
        if on_images:
            return {}
        raise ValueError(
            f'--int8: {checkpoint} holds no scales: pass --images FOLDER, with images to calibrate them on'
        ) from None
    check_scales(scales)
    return scales


def _notes(plain: PlainConfig, targets: Targets, average_is_left: bool) -> Iterator[str]:
    if plain.dropped:
        yield f'left out of {targets.config}: {", ".join(plain.dropped)}'
    if plain.needs:
        yield (
            f'{targets.config} needs kddense installed, for {", ".join(plain.needs)}; --onnx gives a file that does not'
        )
    if average_is_left:
        yield (
            'these are the trained weights; the run also kept their average, which is what its validation measured: '
            '--ema exports that'
        )
    stale = targets.checkpoint.with_suffix('.onnx'), targets.checkpoint.with_suffix('.int8.onnx')
    for file, written, option in zip(stale, (targets.onnx, targets.int8), ('--onnx', '--int8'), strict=True):
        if written is None and file.exists():
            yield f'{file} is of an earlier export: {option} writes it anew'
