"""Programmes of toy runs, and what is asked of every programme: a SIGKILL in any link changes nothing."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from mmengine.config import Config

from kddense.apps import program
from kddense.compat import load_checkpoint

from ..contracts.test_resume import assert_equal
from .processes import SCRIPTS
from .toy_task import ToyTask, losses_of

UNTESTED = ('cfg', 'dataloader', 'evaluator')
PARTS = ('optimizer', 'param_schedulers', 'random_state')


class ToyProgramme:
    """A folder with the configs of a toy task, and programmes over them.

    Args:
        task: The toy task.
        folder: Where all is written: ``teacher.py``, ``student.py`` and ``distilled.py`` of 4 iterations.
    """

    def __init__(self, task: ToyTask, folder: Path, iterations: int = 4) -> None:
        self.task, self.folder = task, folder
        task.build(task.plain().model)  # its package is registered
        length = dict(
            train_cfg__max_iters=iterations, train_cfg__val_interval=100, default_hooks__checkpoint__interval=2
        )
        plain, distilled = task.plain(**length), task.distilled(**length)
        wide = plain.copy()
        wide.model = Config.fromfile(task.teacher['config']).model
        for name, config in (('student', plain), ('teacher', wide), ('distilled', distilled)):
            config.dump(folder / f'{name}.py')

    def write(self, links: dict[str, dict[str, Any]], name: str = 'programme', **others: Any) -> Path:
        """Write a programme; configs by their names in this folder."""
        for link in links.values():
            if isinstance(link, dict) and 'config' in link and not str(link['config']).endswith('.py'):
                link['config'] = str(self.folder / f'{link["config"]}.py')
        file = self.folder / f'{name}.py'
        file.write_text(''.join(f'{key} = {value!r}\n' for key, value in {**others, 'links': links}.items()))
        return file

    def run(self, file: Path, work_dir: str = 'work', *arguments: str) -> int:
        """Run one in this process, its links in their own."""
        return program.main([str(file), '--work-dir', str(self.folder / work_dir), *arguments])

    def last(self, work_dir: str, link: str) -> Path:
        """Return the folder of a link."""
        (folder,) = (one for one in (self.folder / work_dir / link).iterdir() if one.is_dir())
        return folder

    def checkpoint(self, work_dir: str, link: str) -> dict:
        """Return the last checkpoint of a link."""
        folder = self.last(work_dir, link)
        return load_checkpoint(folder / Path((folder / 'last_checkpoint').read_text().strip()).name)

    def assert_survives(self, links: dict[str, dict[str, Any]], monkeypatch: Any, killed: int = 3) -> None:
        """Run a programme, and again with each training killed once after an iteration; both must end bit for bit alike."""
        monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(SCRIPTS), os.environ.get('PYTHONPATH', '')]))
        for link in links.values():
            options = link.setdefault('options', {})
            options |= dict.fromkeys(f'{part}_{kind}' for part in ('val', 'test') for kind in UNTESTED)
            options['custom_imports'] = dict(imports=['kddense', 'die_once'], allow_failed_imports=False)
            options['custom_hooks'] = [dict(type='DieOnce', iteration=killed), *options.get('custom_hooks', [])]
        file = self.write(links)
        assert self.run(file, 'whole') == 0
        monkeypatch.setenv('DIE', '1')
        for _ in links:  # a link that dies stops those that hang on it
            with contextlib.suppress(SystemExit):
                self.run(file, 'killed')
        assert self.run(file, 'killed') == 0
        for name in links:
            assert (self.last('killed', name) / 'died').exists(), name
            one, other = (self.checkpoint(work, name) for work in ('whole', 'killed'))
            assert_equal(dict(one['state_dict']), dict(other['state_dict']), name)
            for part in PARTS:
                assert_equal(one[part], other[part], f'{name} {part}')
            assert losses_of(one['message_hub']) == losses_of(other['message_hub'])
