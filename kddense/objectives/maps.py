"""The parent of all objectives that compare maps: levels, sizes, and the layers between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from logging import WARNING
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from kddense.connectors import build_connector, build_fusing_connector, fuses, match_rank, match_size
from kddense.errors import ConfigError
from kddense.exchange import Answer
from kddense.views import ModelView

from .base import Objective

SIDES = ('student', 'teacher')


class MapObjective(Objective):
    """Compares the maps of two models pair by pair; the loss is averaged over the pairs.

    A derived class says where the maps come from (:meth:`probed`, :meth:`items`), and compares one pair
    (:meth:`compare`). Tokens are turned into maps where the other side has a map.

    Args:
        levels: Which pairs to compare, such as ``[0]`` for the finest level of a pyramid; all by default.
        teacher_levels: The same for the teacher; ``levels`` by default.
        resize: Which side's maps are resized to the other's size, ``'student'`` or ``'teacher'``.
        connector: ``'auto'`` connects the pairs whose channels differ; a dict connects every pair with such a layer
            (``dict(type='kddense.Connector', norm=dict(type='BN'))``); ``None`` never connects. A class with
            ``fuses = True`` is built once, and maps the list of all levels to such a list.
        connect: On which side the connector stands, ``'student'`` or ``'teacher'``.
        alone: Whether the student's own losses do not count while this one does: with ``weight=dict(value=1, stop=0.1)``,
            the first of two stages. See also :class:`kddense.RestHook`.
        weight: See :class:`Objective`.
        teacher: See :class:`Objective`.
    """

    def __init__(
        self,
        levels: Sequence[int] | None = None,
        teacher_levels: Sequence[int] | None = None,
        resize: str = 'student',
        connector: str | Mapping[str, Any] | None = None,
        connect: str = 'student',
        alone: bool = False,
        weight: float | str | Mapping[str, Any] = 1.0,
        teacher: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(weight=weight, teacher=teacher)
        if connector not in ('auto', None) and not isinstance(connector, Mapping):
            raise ValueError(f"connector must be 'auto', None or a dict, got {connector!r}")
        for name, value in (('resize', resize), ('connect', connect)):
            if value not in SIDES:
                raise ValueError(f"{name} must be 'student' or 'teacher', got {value!r}")
        self.levels = levels
        self.teacher_levels = levels if teacher_levels is None else teacher_levels
        self.resize = resize
        self.connector = connector
        self.fuses = fuses(connector)
        self.connect = connect
        self.trains_alone = alone
        self.connectors = nn.ModuleList()
        self._teacher_cells: dict[str, Any] = {}

    @property
    def asks_teacher(self) -> bool:
        return True

    def bind(self, student: ModelView, teacher: ModelView) -> None:
        super().bind(student, teacher)
        self._teacher_cells = teacher.cells
        ours, theirs = self.probed(student, 'student'), self.probed(teacher, 'teacher')
        self._check_repeats(len(ours), len(theirs))
        ours, theirs = self.chosen(ours, 'student'), self.chosen(theirs, 'teacher')
        self.check_pairs(ours, theirs)
        for own, other in zip(ours, theirs, strict=True):
            self.bind_pair(own, other)
        if self.fuses:
            self._bind_fusing([self.map_of(own) for own in ours], [self.map_of(other) for other in theirs])

    def _check_repeats(self, ours: int, theirs: int) -> None:
        """Raise a ConfigError if a level is compared with the same one twice, which would weigh it twice."""
        if self.levels is None or self.teacher_levels is None:
            return
        levels, teacher_levels = _from_the_front(self.levels, ours), _from_the_front(self.teacher_levels, theirs)
        pairs = list(zip(levels, teacher_levels, strict=False))
        if len(set(pairs)) < len(pairs):
            raise ConfigError(f'must name each level once, got {list(self.levels)}', 'levels')

    def check_run(self, config: str | None, checkpoint: str | None) -> None:
        super().check_run(config, checkpoint)
        stop = self.schedule.stop
        if self.trains_alone and stop is not None and config is not None and 'RestHook' not in config:
            print_log(
                f'{type(self).__name__} trains alone first, and what it does not train does not rest: weight decay and the '
                "statistics of norms still move it. Add default_hooks = dict(rest=dict(type='kddense.RestHook', "
                f"parts={{'neck|.*head': dict(stop={stop})}}))",
                logger='current',
                level=WARNING,
            )

    def probed(self, view: ModelView, side: str) -> list[Any]:
        """Return what a model shows of a tiny blank batch, one item per map."""
        raise NotImplementedError

    def items(self, answer: Answer, side: str) -> list[Any]:
        """Return what a model showed in a step, one item per map."""
        raise NotImplementedError

    def map_of(self, item: Any) -> Tensor:
        """Return the map of an item."""
        return item

    def chosen(self, items: Sequence[Any], side: str) -> list[Any]:
        """Return the items of the levels that are compared."""
        levels = self.levels if side == 'student' else self.teacher_levels
        if levels is None:
            return list(items)
        key = 'levels' if levels is self.levels else 'teacher_levels'
        if not all(-len(items) <= level < len(items) for level in levels):
            raise ConfigError(f'must name some of 0..{len(items) - 1}{self.place(side)}, got {list(levels)}', key)
        return [items[level] for level in levels]

    def place(self, side: str) -> str:
        """Return, for messages, where a side's maps come from."""
        return ''

    def check_pairs(self, ours: Sequence[Any], theirs: Sequence[Any]) -> None:
        """Raise a ValueError unless there is a map of the teacher for each of the student."""
        if len(ours) != len(theirs):
            raise ValueError(
                f'the student shows {len(ours)} maps{self.place("student")} and the teacher {len(theirs)}'
                f'{self.place("teacher")}; name those to compare with `levels` and `teacher_levels`'
            )

    def bind_pair(self, own: Any, other: Any) -> None:
        """Check one pair of what a tiny batch showed, and build what stands between them."""
        if self.fuses:
            return
        ours, theirs = match_rank(self.map_of(own), self.map_of(other))
        self.connectors.append(self.layer_between(ours, theirs) or nn.Identity())

    def layer_between(self, own: Tensor, other: Tensor) -> nn.Module | None:
        """Return the layer between one pair of maps, ``None`` if there is none."""
        channels = 1 if own.dim() == 4 else -1
        layer: Any = self.connector
        if layer == 'auto':
            layer = {} if own.dim() != other.dim() or own.shape[channels] != other.shape[channels] else None
        shapes = [own.shape, other.shape] if self.connect == 'student' else [other.shape, own.shape]
        return build_connector(layer, *shapes)

    def _bind_fusing(self, ours: list[Tensor], theirs: list[Tensor]) -> None:
        assert isinstance(self.connector, Mapping)
        sides = (ours, theirs) if self.connect == 'student' else (theirs, ours)
        self.connectors.append(build_fusing_connector(self.connector, *sides))

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        losses = [self.compare(*pair) for pair in self.pairs(seen, taught)]
        return {'loss': sum(losses[1:], losses[0]) / len(losses)}

    def pairs(self, seen: Answer, taught: Answer) -> list[tuple[Tensor, Tensor]]:
        """Return the student's map and the teacher's, connected and of one size, for every level."""
        ours = [self.map_of(item) for item in self.chosen(self.items(seen, 'student'), 'student')]
        theirs = [self.map_of(item) for item in self.chosen(self.items(taught, 'teacher'), 'teacher')]
        matched = [match_rank(*pair) for pair in zip(ours, theirs, strict=True)]
        ours, theirs = (list(side) for side in zip(*matched, strict=True))
        if self.connect == 'student':
            ours = self.connected(ours)
        else:
            theirs = self.connected(theirs)
        image = None if seen.batch is None else seen.batch.inputs.shape[-2:]
        return [
            match_size(own, other, self.resize, image=image, **self._teacher_cells)
            for own, other in zip(ours, theirs, strict=True)
        ]

    def connected(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the maps of one side behind their connectors."""
        if self.fuses:
            return list(self.connectors[0](maps))
        return [layer(one) for layer, one in zip(self.connectors, maps, strict=True)]

    def compare(self, own: Tensor, other: Tensor) -> Tensor:
        """Return the loss of one pair, a scalar; ``own`` has gradients."""
        raise NotImplementedError


def _from_the_front(levels: Sequence[int], count: int) -> list[int]:
    return [level + count if level < 0 else level for level in levels]
