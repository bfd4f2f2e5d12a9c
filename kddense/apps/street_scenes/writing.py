"""Writing street scenes in the layouts of Cityscapes, COCO and NYU, so that stock data sets read them."""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmengine.utils import ProgressBar

from . import png
from .frame import LEAST_PIXELS, Frame, render
from .labels import CATEGORIES
from .workers import cores, done_here, done_in_processes, keep_freed_memory

SPLITS = ('train', 'val')
DIFFICULTIES = {'easy': 0.0, 'medium': 0.5, 'hard': 1.0}
MANIFEST = 'street_scenes.json'
_RENDERER = 2  # raise it with every change of a pixel
_SETTINGS, _PARTS = '.settings.json', '.parts'


@dataclass(frozen=True)
class StreetScenes:
    """A data set of street scenes to generate.

    Args:
        train: Number of images to train on, at least 1.
        val: Number of images to validate on, at least 1.
        width: Width of an image in pixels, at least 64.
        height: Height of an image in pixels, at least 32.
        difficulty: ``'easy'`` (0), ``'medium'`` (0.5), ``'hard'`` (1), or any number from 0 to 1: the higher, the more
            crowded, the farther away, the duller and the less visible things are.
        seed: At least 0. The same seed gives the same bytes in every file, on every machine.
        smallest: Pixels that a car, a person and so on must show to be counted, at least 1; what shows fewer is left out of
            training and measuring, as Cityscapes leaves out groups (``iscrowd``).

    Raises:
        ValueError: If one of them is something else.
    """

    train: int = 400
    val: int = 100
    width: int = 256
    height: int = 128
    difficulty: float | str = 'medium'
    seed: int = 0
    smallest: int = LEAST_PIXELS

    def __post_init__(self) -> None:
        for name, least in (('train', 1), ('val', 1), ('width', 64), ('height', 32), ('seed', 0), ('smallest', 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f'{name} must be an integer of at least {least}, got {value!r}')
        difficulty = DIFFICULTIES.get(str(self.difficulty), self.difficulty)
        if not isinstance(difficulty, (int, float)) or not 0 <= difficulty <= 1:
            raise ValueError(
                f'difficulty must be {", ".join(DIFFICULTIES)}, or a number from 0 to 1, got {self.difficulty!r}'
            )
        object.__setattr__(self, 'difficulty', float(difficulty))

    def render(self, split: str, index: int) -> Frame:
        """Render one image of a split, ``'train'`` or ``'val'``, without writing it."""
        return render(
            self.seed, SPLITS.index(split), index, self.width, self.height, float(self.difficulty), self.smallest
        )

    def write(self, folder: str | os.PathLike[str], processes: int | None = None, progress: bool = False) -> Path:
        """Generate all images into a folder.

        They are written beside it, under its name with ``.partial`` at the end, and renamed once everything is there:
        the folder is complete or does not exist. After an interruption the same call goes on where it stopped.

        Args:
            folder: Where to; must not exist, or be empty, or hold exactly these images, which are then left alone.
            processes: How many work at once; as many as there are cores by default.
            progress: Whether to show how far it is.

        Returns:
            The folder, with ``leftImg8bit/``, ``gtFine/``, ``depth/``, ``annotations/instances_{train,val}.json``, and
            ``street_scenes.json``: these settings, and a digest (SHA-256) of all files.

        Raises:
            ValueError: If the folder, or the partial one, holds something else.
            OSError: If it cannot be written to, or the disk is full; what is done is kept.
            RuntimeError: If one of the processes is killed.
        """
        target = Path(folder)
        if _is_complete(target, self):
            return target
        partial = target.absolute().with_name(f'{target.absolute().name}.partial')
        try:
            _prepare(partial, self)
            if not (partial / MANIFEST).exists():
                self._write_missing(partial, processes or cores(), progress)
                self._finish(partial)
            shutil.rmtree(partial / _PARTS, ignore_errors=True)
            (partial / _SETTINGS).unlink(missing_ok=True)
            partial.rename(target)
        except OSError as error:
            raise _explained(error, partial) from error
        return target

    def _write_missing(self, partial: Path, processes: int, progress: bool) -> None:
        jobs = [(split, index) for split in SPLITS for index in range(getattr(self, split))]
        missing = [job for job in jobs if not _part(partial, *job).exists()]
        keep_freed_memory()
        bar = ProgressBar(len(missing), file=sys.stderr) if progress and missing else None
        work = functools.partial(self._write_image, partial)
        alone = processes == 1 or len(missing) < 2
        for _ in done_here(work, missing) if alone else done_in_processes(work, missing, processes):
            if bar is not None:
                bar.update()
        if bar is not None:
            sys.stderr.write('\n')

    def _finish(self, partial: Path) -> None:
        """Put the annotations together, and a digest of everything; nothing half-written stays behind."""
        for unfinished in partial.rglob('*.tmp'):
            unfinished.unlink()
        digest = hashlib.sha256()
        for split in SPLITS:
            parts = [json.loads(_part(partial, split, index).read_text()) for index in range(getattr(self, split))]
            text = json.dumps(self._coco(split, [part['annotations'] for part in parts]))
            _write(partial / 'annotations' / f'instances_{split}.json', text.encode())
            for piece in (text, *(part['digest'] for part in parts)):
                digest.update(piece.encode())
        manifest = {**_as_dict(self), 'digest': digest.hexdigest()}
        _write(partial / MANIFEST, json.dumps(manifest, indent=2).encode())

    def _coco(self, split: str, annotations: list[list[dict]]) -> dict[str, Any]:
        """Return COCO's dictionary; file names are relative to ``leftImg8bit/<split>/``."""
        size = {'width': self.width, 'height': self.height}
        images = [
            {'id': index, 'file_name': f'{_stem(index)}_leftImg8bit.png', **size} for index in range(len(annotations))
        ]
        flat = [{'image_id': index, **annotation} for index, of_one in enumerate(annotations) for annotation in of_one]
        return {
            'images': images,
            'annotations': [{'id': number, **annotation} for number, annotation in enumerate(flat, 1)],
            'categories': [{'id': label, 'name': name} for label, name in CATEGORIES.items()],
        }

    def _write_image(self, partial: Path, split: str, index: int) -> None:
        """Write all files of one image, and last of all the part that says that they are whole."""
        frame = self.render(split, index)
        digest = hashlib.sha256()
        for path, image in (
            (f'leftImg8bit/{split}/{_stem(index)}_leftImg8bit.png', frame.image),
            (f'gtFine/{split}/{_stem(index)}_gtFine_labelIds.png', frame.label_ids),
            (f'gtFine/{split}/{_stem(index)}_gtFine_labelTrainIds.png', frame.train_ids),
            (f'gtFine/{split}/{_stem(index)}_gtFine_instanceIds.png', frame.instance_ids),
            (f'depth/{split}/{_stem(index)}_depth.png', frame.depth),
        ):
            data = png.encode(image)
            _write(partial / path, data)
            digest.update(data)
        part = {'digest': digest.hexdigest(), 'annotations': frame.annotations()}
        _write(_part(partial, split, index), json.dumps(part).encode())


def _as_dict(scenes: StreetScenes) -> dict[str, Any]:
    return {**asdict(scenes), 'renderer': _RENDERER}


def _stem(index: int) -> str:
    """Return how Cityscapes names an image: city, sequence, frame."""
    return f'scenes/scenes_{index:06}_000000'


def _part(partial: Path, split: str, index: int) -> Path:
    return partial / _PARTS / f'{split}_{index:06}.json'


def _write(path: Path, data: bytes) -> None:
    """Write a file atomically."""
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'{path.name}.{os.getpid()}.tmp')
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _settings_in(file: Path) -> dict[str, Any] | None:
    """Return the settings in a file; None if there is no such file or it is not ours."""
    try:
        settings = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return {key: value for key, value in settings.items() if key != 'digest'} if isinstance(settings, dict) else None


def _is_complete(target: Path, scenes: StreetScenes) -> bool:
    """Tell whether these very scenes are there; raise if something else is."""
    if target.is_dir():
        found = _settings_in(target / MANIFEST)
        if found == _as_dict(scenes):
            return True
        if found is not None:
            raise _in_the_way(target, found, scenes)
        if not any(target.iterdir()):
            return False
    if target.exists():
        raise _in_the_way(target, None, scenes)
    return False


def _in_the_way(folder: Path, found: dict[str, Any] | None, scenes: StreetScenes) -> ValueError:
    """Return the error about a folder of other scenes, whose settings were found, or of something else."""
    what = (
        'is in the way and was not generated here'
        if found is None
        else f'holds street scenes of other settings ({_difference(found, _as_dict(scenes))})'
    )
    return ValueError(f'{folder} {what}: delete it or choose another folder')


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    keys = [key for key in wanted if found.get(key) != wanted[key]]
    return ', '.join(f'{key} {found.get(key)} instead of {wanted[key]}' for key in keys) or 'a newer format'


def _prepare(partial: Path, scenes: StreetScenes) -> None:
    """Make the partial folder, or keep what an interrupted call with the same settings left there."""
    found = _settings_in(partial / _SETTINGS) or _settings_in(partial / MANIFEST)
    if partial.exists() and found != _as_dict(scenes):
        entries = {entry.name for entry in partial.iterdir()} if partial.is_dir() else {partial.name}
        if not all(name.startswith(_SETTINGS) for name in entries):
            raise _in_the_way(partial, found, scenes)
        shutil.rmtree(partial)  # cut off before its first image
    _write(partial / _SETTINGS, json.dumps(_as_dict(scenes)).encode())


def _explained(error: OSError, partial: Path) -> OSError:
    """Return the same error with a sentence that says what to do."""
    if error.errno == errno.ENOSPC:
        return OSError(f'no space left in {partial.parent}: free some and run the same command again, which goes on')
    reason = error.strerror or str(error)
    return type(error)(f'cannot write to {partial.parent}: {reason}; choose another folder')
