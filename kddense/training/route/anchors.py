"""The anchors of a route: checkpoints of a teacher's training, and when the student learns from each."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kddense.options import no_such_key
from kddense.training.checkpoints import NUMBERED, is_whole

WAYS = ('equal', 'greedy')
FOLDER_KEYS = ('folder', 'anchors', 'how', 'delta', 'every', 'batches')
ANCHOR_KEYS = ('checkpoint', 'start', 'epoch')


@dataclass(frozen=True)
class Anchor:
    """One of them.

    Attributes:
        checkpoint: A path or URL.
        start: From when on: an iteration, or as a float a share of the training; ``None`` if ``epoch`` says.
        epoch: From when on, in epochs.
    """

    checkpoint: str
    start: int | float | None = None
    epoch: int | None = None

    def first_iteration(self, max_iters: int, epoch_length: int | None) -> int:
        """Return its first iteration.

        Args:
            max_iters: Of the run.
            epoch_length: In iterations; ``None`` if the run counts none.

        Raises:
            ValueError: If it is given in epochs and the run counts iterations.
        """
        if self.epoch is not None:
            if epoch_length is None:
                raise ValueError('route: an anchor begins at an epoch, but the run counts iterations: give `start`')
            return self.epoch * epoch_length
        assert self.start is not None
        return self.start if isinstance(self.start, int) else round(self.start * max_iters)


@dataclass(frozen=True)
class Greedy:
    """Anchors that are chosen on the way.

    Attributes:
        candidates: All checkpoints of the teacher's training, in order.
        every: The share of the training, or the iterations, after which the next one is chosen.
        delta: The next anchor is the first candidate from which the student is so far that its divergence from the current
            anchor is less than this share of it; the paper's δ.
        batches: On how many batches of training images that is measured.
    """

    candidates: tuple[str, ...]
    every: int | float
    delta: float
    batches: int


def read_route(route: Any) -> list[Anchor] | Greedy:
    """Read what a config gives as a route.

    Args:
        route: See :class:`kddense.RouteHook`.

    Raises:
        ValueError: If it is no route, or one without order.
        FileNotFoundError: If there is no such file or folder.
    """
    if isinstance(route, str):
        route = _from_file(Path(route))
    if isinstance(route, Mapping):
        return _of_folder(route)
    if not isinstance(route, Sequence) or not route:
        raise ValueError(f'route must be a list of anchors, a dict with a folder, or a file of either, got {route!r}')
    return _in_order([_anchor(one, f'route[{index}]') for index, one in enumerate(route)])


def checkpoints_of(folder: Path) -> list[str]:
    """Return the numbered checkpoints of a training that are whole, in its order.

    Raises:
        FileNotFoundError: If there is no such folder, or none in it.
    """
    found = [(int(match[1]), path) for path in folder.glob('*.pth') if (match := re.fullmatch(NUMBERED, path.name))]
    if not found:
        raise FileNotFoundError(
            f"route.folder: '{folder}' holds no checkpoints, epoch_1.pth or iter_100.pth: train the teacher with a smaller "
            'default_hooks.checkpoint.interval, and keep them all'
        )
    return [str(path) for _, path in sorted(found) if is_whole(path)]


def _from_file(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(f"route: there is no file '{file}'") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"route: '{file}' is no JSON list of anchors: {error}") from None


def _of_folder(route: Mapping[str, Any]) -> list[Anchor] | Greedy:
    for key in route:
        if key not in FOLDER_KEYS:
            raise ValueError(f'route{no_such_key(key, FOLDER_KEYS)}')
    if not isinstance(route.get('folder'), str):
        raise ValueError(f"route.folder must be the work_dir of the teacher's training, got {route.get('folder')!r}")
    how, count = route.get('how', 'equal'), route.get('anchors', 4)
    if how not in WAYS:
        raise ValueError(f"route.how must be 'equal' or 'greedy', got {how!r}")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f'route.anchors must be a whole number of at least 1, got {count!r}')
    for key in ('every', 'delta', 'batches') if how == 'equal' else ():
        if key in route:
            raise ValueError(f"route.{key} is of greedy anchors alone: remove it, or set route.how='greedy'")
    every, delta, batches = route.get('every', 1 / count), route.get('delta', 0.8), route.get('batches', 4)
    if not isinstance(delta, (int, float)) or not 0 < delta <= 1:
        raise ValueError(f'route.delta must be above 0 and at most 1, got {delta!r}')
    if isinstance(every, bool) or not isinstance(every, (int, float)) or every <= 0:
        raise ValueError(f'route.every must be iterations, or a share of the training, above 0, got {every!r}')
    if isinstance(batches, bool) or not isinstance(batches, int) or batches < 1:
        raise ValueError(f'route.batches must be a whole number of at least 1, got {batches!r}')
    checkpoints = checkpoints_of(Path(route['folder']))
    if how == 'greedy':
        return Greedy(tuple(checkpoints), every, float(delta), batches)
    if len(checkpoints) < count:
        raise ValueError(
            f"route.anchors is {count}, but '{route['folder']}' holds {len(checkpoints)} checkpoints: train the teacher "
            'with a smaller default_hooks.checkpoint.interval, or ask for fewer'
        )
    chosen = [checkpoints[round((one + 1) * len(checkpoints) / count) - 1] for one in range(count)]
    return [Anchor(checkpoint, index / count) for index, checkpoint in enumerate(chosen)]


def _anchor(written: Any, where: str) -> Anchor:
    if not isinstance(written, Mapping) or not isinstance(written.get('checkpoint'), str):
        raise ValueError(f'{where} must be a dict with a checkpoint and a start, got {written!r}')
    for key in written:
        if key not in ANCHOR_KEYS:
            raise ValueError(f'{where}{no_such_key(key, ANCHOR_KEYS)}')
    start, epoch = written.get('start'), written.get('epoch')
    if (start is None) == (epoch is None):
        raise ValueError(f'{where} needs either start, in iterations or as a share of the training, or epoch')
    value = start if epoch is None else epoch
    kinds = (int, float) if epoch is None else (int,)
    if isinstance(value, bool) or not isinstance(value, kinds) or value < 0:
        raise ValueError(f'{where} must begin at a number of at least 0, got {value!r}')
    return Anchor(written['checkpoint'], start, epoch)


def _in_order(anchors: list[Anchor]) -> list[Anchor]:
    units = {'epoch' if one.epoch is not None else type(one.start).__name__ for one in anchors if one.start != 0}
    if len(units) > 1:
        raise ValueError('route: all anchors must begin at iterations, at shares of the training, or at epochs')
    starts = [one.epoch if one.start is None else one.start for one in anchors]
    for index, (one, other) in enumerate(itertools.pairwise(starts)):
        if not one < other:  # type: ignore[operator]
            raise ValueError(f'route has no order: anchor {index + 1} begins at {other}, anchor {index} at {one}')
    if starts[0] != 0:
        raise ValueError(f'route: the first anchor begins at {starts[0]}, but the student learns from iteration 0 on')
    return anchors
