"""The work_dir of a distillation: what it was begun with, what is done, and that no other run lies in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.utils import get_installed_path

from kddense.apps.demo.training import read_state, write_state
from kddense.configs import EXTRAS
from kddense.files import value_digest

from .writing import DISTILLED

STATE = 'distill.json'


class Folder:
    """A work_dir.

    Args:
        path: Where it is or will be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state: dict[str, Any] = read_state(path / STATE)

    @property
    def is_begun(self) -> bool:
        """Whether an earlier call wrote its configs."""
        return bool(self.state)

    @property
    def ground(self) -> Path:
        """The nearest folder above it that exists: what may be written in the one may be tried in the other."""
        return next(parent for parent in self.path.absolute().parents if parent.is_dir())

    def check(self, settings: Mapping[str, Any]) -> None:
        """Check that the folder is empty, or of the same distillation.

        Args:
            settings: What makes a distillation what it is, by what messages call it; values of JSON.

        Raises:
            ValueError: If it holds something else.
        """
        if self.is_begun:
            begun = self.state['settings']
            differing = [name for name in {**begun, **settings} if begun.get(name) != settings.get(name)]
            if differing:
                raise ValueError(
                    f'{self.path} holds a distillation with another {" and ".join(differing)}: choose another --work-dir, '
                    'or delete it'
                )
        elif self.path.exists() and any(self.path.iterdir()):
            raise ValueError(f'{self.path} holds something else: choose another --work-dir, or delete it')

    def begin(self, settings: Mapping[str, Any], files: Mapping[str, str], teacher: Mapping[str, Any]) -> None:
        """Write the configs, and note what they were made of.

        Args:
            settings: See :meth:`check`.
            files: Texts by name.
            teacher: What is known of the teacher's quality.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (self.path / name).write_text(text)
        self.state = dict(settings=dict(settings), teacher=dict(teacher), done=[])
        write_state(self.path / STATE, self.state)

    def note(self, done: str) -> None:
        """Note that a training came to its end."""
        self.state['done'] = [*self.state['done'], done]
        write_state(self.path / STATE, self.state)

    def is_done(self, training: str) -> bool:
        """Tell whether a training came to its end in an earlier call."""
        return training in self.state.get('done', ())

    def by_hand(self, package: str | None) -> Iterator[str]:
        """Yield how to train it without this command."""
        train = f'{self.path / DISTILLED} --work-dir {self.path / "distilled"}'
        if package in EXTRAS:
            script = Path(get_installed_path(package)) / '.mim' / 'tools' / 'train.py'
            yield f"  by hand, with {package}'s own script: python {script} {train}"
        parallel = 'python -m torch.distributed.run --nproc_per_node=8 -m kddense train'
        yield f'  by hand, on 8 GPUs: {parallel} {train} --launcher pytorch'


def digest(value: Any) -> str:
    """Return a short name of a value, such as a config's contents, that another value does not have."""
    return value_digest(value)[:12]
