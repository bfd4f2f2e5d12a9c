"""The config that a link trains, and the folder that is of this config and of what it learns from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from kddense.apps.measure.timing import steps_that_fit
from kddense.configs import find_config, is_distiller, read_config_file
from kddense.errors import ConfigError, within
from kddense.files import value_digest, write_whole
from kddense.training.checkpoints import find_checkpoint
from kddense.training.inputs import inputs_in
from kddense.training.settings import continue_bit_for_bit, steps_of, stretched

from .links import Link, Programme, replaced
from .sizes import resized

COLOURS = ('mean', 'std', 'bgr_to_rgb', 'rgb_to_bgr')
RESULT = 'result.json'
CONFIG = 'config/link.py'  # mmengine writes one of that name into the work_dir itself, with what the command changed


@dataclass(frozen=True)
class Version:
    """A link as it is now, with its folder.

    Attributes:
        link: The link.
        folder: Its work_dir, ``<work_dir>/<name>/<digest>``: a link that is changed gets another.
        config: What it trains, with references to other links in it.
    """

    link: Link
    folder: Path
    config: Config

    @property
    def is_done(self) -> bool:
        """Whether it was trained and tested."""
        return (self.folder / RESULT).exists()

    @property
    def checkpoint(self) -> Path:
        """Its last checkpoint.

        Raises:
            FileNotFoundError: If it is gone.
        """
        found = find_checkpoint(self.folder)
        if found is None:
            raise FileNotFoundError(
                f'links.{self.link.name}: {self.folder} holds no whole checkpoint any more: delete {self.folder / RESULT}, '
                'and it is trained again'
            )
        return found

    def write_config(self, others: Mapping[str, Version]) -> None:
        """Write what is trained, with references replaced by paths; the same text each time."""
        config = Config(replaced(self.config.to_dict(), lambda name, what: others[name].told(what)))
        if self.link.same_time:
            config = stretched(config, self.steps_in_that_time(others))
        text = config.pretty_text.encode()
        file = self.folder / CONFIG
        if not file.exists() or file.read_bytes() != text:
            write_whole(file, text)

    def steps_in_that_time(self, others: Mapping[str, Version]) -> int:
        """Return how long it trains, if that is as long as another link took; see ``Link.same_time``."""
        plain, student = (others[name] for name in self.link.same_time or ())
        taken = sum(one.minutes() for one in student.chain(others))
        steps, unit = steps_of(plain.config)
        return steps_that_fit(steps, taken / plain.minutes(), unit)

    def chain(self, others: Mapping[str, Version]) -> list[Version]:
        """Return this link and what it learns from, directly or not, as far as that has no seed of its own."""
        found = {self.link.name: self}
        for name in self.link.needs:
            if not others[name].link.has_own_seed:
                found |= {one.link.name: one for one in others[name].chain(others)}
        return list(found.values())

    def minutes(self) -> float:
        """Return how long its training took.

        Raises:
            ValueError: If that was not logged.
        """
        minutes = json.loads((self.folder / RESULT).read_text())['minutes']
        if minutes is None:
            raise ValueError(
                f'links.{self.link.name}: its log does not say how long it trained, which a link of the same time needs: '
                'let default_hooks.logger.interval be less than its iterations'
            )
        return float(minutes)

    def told(self, what: str) -> str:
        """Return the ``'checkpoint'``, ``'config'`` or ``'work_dir'`` of this link."""
        if what == 'checkpoint':
            return str(self.checkpoint)
        return str(self.folder / CONFIG if what == 'config' else self.folder)


def versions_of(programme: Programme, work_dir: Path) -> dict[str, Version]:
    """Return all links with their folders, in an order in which none comes before what it learns from.

    Raises:
        ConfigError: If a config does not fit.
        FileNotFoundError: If there is no such config.
    """
    digests: dict[str, str] = {}
    found = {}
    for name, link in programme.links.items():
        config = _config_of(link)
        digests[name] = _digest(config, {one: digests[one] for one in link.needs}, link.same_time or ())
        found[name] = Version(link, work_dir / name / digests[name], config)
    return found


def _config_of(link: Link) -> Config:
    """Return what a link trains, references and all."""
    where = f'links.{link.name}'
    config = read_config_file(find_config(link.config), f'{where}.config')
    for key in ('model', 'train_cfg') if link.ensemble else ('model', 'optim_wrapper', 'train_cfg'):
        if key not in config:
            raise ConfigError(f": '{link.config}' has no {key}: it is no config to train by", f'{where}.config')
    distils = is_distiller(config.model)
    if link.ensemble:
        members = [dict(config=f'{{{name}.config}}', checkpoint=f'{{{name}.checkpoint}}') for name in link.ensemble]
        config.model = dict(type='kddense.EnsembleModel', members=members)
    if link.student is not None:
        student = resized(link.student, f'{where}.student')
        replaced = config.model.student if distils else config.model
        trained_on = replaced.get('data_preprocessor') or config.get('data_preprocessor') or {}
        student['data_preprocessor'] = _preprocessor(student.get('data_preprocessor') or {}, trained_on)
        config.model = {**config.model, 'student': student} if distils else student
    if link.teacher is not None:
        if not distils:
            raise ConfigError(
                f": '{link.config}' distils nothing, its model is no kddense.Distiller", f'{where}.teacher'
            )
        config.model.teacher = _teacher(link.teacher)
    if link.steps is not None:
        config = stretched(config, link.steps)
    with within(f'{where}.options'):
        config.merge_from_dict(dict(link.options))
    config.randomness = {**config.get('randomness', {}), 'seed': link.seed + link.seed_offset}
    continue_bit_for_bit(config)
    config.pop('work_dir', None)
    return config


def _preprocessor(own: Mapping[str, Any], trained_on: Mapping[str, Any]) -> dict[str, Any]:
    """Return how images come to another student: colours as its own config has them, sizes as the training has them."""
    return {**own, **trained_on, **{key: own[key] for key in COLOURS if key in own}}


def _teacher(written: Any) -> Any:
    if isinstance(written, str):
        return _teacher(dict(link=written))
    if isinstance(written, (list, tuple)):
        return [_teacher(one) if isinstance(one, Mapping) else one for one in written]
    if 'link' not in written:
        return {key: _teacher(one) if isinstance(one, (dict, list, tuple)) else one for key, one in written.items()}
    name = written['link']
    others = {key: one for key, one in written.items() if key != 'link'}
    return {'config': f'{{{name}.config}}', 'checkpoint': f'{{{name}.checkpoint}}', **others}


def _digest(config: Config, needs: Mapping[str, str], same_time: Sequence[str]) -> str:
    """Return a digest of a config, of the files that it names, and of the links that it needs."""
    contents = config.to_dict()
    parts = [contents, dict(inputs_in(contents)), needs, *([list(same_time)] if same_time else [])]
    return value_digest(parts)[:10]
