"""One link at work: its training, then its test, each in a process that a command of the programme starts."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from mmengine.config import Config

from kddense.apps.measure.outcome import newest_metrics, parameters_in, scores_in
from kddense.compat import load_checkpoint
from kddense.files import write_whole
from kddense.training.checkpoints import find_checkpoint
from kddense.training.runs import read_run
from kddense.training.settings import steps_of

from .versions import CONFIG, RESULT, Version

LOG = 'output.log'
LOCK = 'lock'
# mmengine's lines: 'Epoch(train)  [1][10/48]  lr: …  eta: 0:01:20  time: …' and 'Iter(train) [ 10/600]  …'
LINE = re.compile(r'(?:Epoch|Iter)\(train\)\s+((?:\[[\d ]+\])?\[[\d /]+\]).*?eta: ((?:\d+ days?, )?[\d:]+)')


class LinkError(RuntimeError):
    """A link that failed; the message says why and where to read on."""


class Work:
    """A link at work in processes of its own.

    The processes hold a lock on the folder for as long as they live, also if this one is killed: another call of the
    programme then waits for them, and two calls never train one link at the same time.

    Args:
        version: What to train and test.
        others: The versions of all links.

    Raises:
        LinkError: If its processes cannot be started.
        OSError: If something of what it learns from is gone.
        ValueError: If how long it trains is not known.
    """

    def __init__(self, version: Version, others: Mapping[str, Version]) -> None:
        self.version = version
        self._process: subprocess.Popen[bytes] | None = None
        self._is_trained = False
        self._commands: list[str] = []
        self._others = others
        version.folder.mkdir(parents=True, exist_ok=True)
        self._lock = locked(version.folder / LOCK)
        self.is_elsewhere = self._lock is None
        if self._lock is None or version.is_done:
            return
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        folder, config = self.version.folder, self.version.folder / CONFIG
        self.version.write_config(self._others)
        if self.version.link.ensemble:
            self._is_trained = True
            self._start('test', str(config), '--work-dir', str(folder / 'test'))
            return
        # With --resume and nothing to go on from, a config's load_from would be ignored.
        resume = ['--resume'] if find_checkpoint(folder) else []
        self._start('train', str(config), '--work-dir', str(folder), *resume)

    def has_ended(self) -> bool:
        """Look after its processes, and tell whether all has come to its end.

        Raises:
            LinkError: If a process failed.
        """
        if self._process is None or self._process.poll() is None:
            return self._process is None
        if self._process.returncode != 0:
            raise LinkError(
                f'links.{self.version.link.name} failed: {self._reason(self._process.returncode)}; see {self._log}'
            )
        if not self._is_trained:
            self._is_trained = True
            if self.version.config.get('test_evaluator'):
                test = str(self.version.folder / 'test')
                config, checkpoint = self.version.folder / CONFIG, self.version.checkpoint
                self._start('test', str(config), str(checkpoint), '--work-dir', test)
                return False
        self._finish()
        return True

    def interrupt(self) -> None:
        """Ask it to end with a checkpoint, and wait for that."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
        self.close()

    def close(self) -> None:
        """Let go of the folder."""
        if self._lock is not None:
            self._lock.close()

    def progress(self) -> tuple[str, float | None]:
        """Return how far it is, in words, and the seconds that are left of its training, if they are known."""
        name = self.version.link.name
        if self._is_trained:
            return f'{name}: testing', 0.0
        found = LINE.findall(self._tail())
        if not found:
            return f'{name}: starting', None
        place, left = found[-1]
        return f'{name}: {"".join(place.split())}, {left} left', _seconds(left)

    def _start(self, *arguments: str) -> None:
        assert self._lock is not None
        link = self.version.link
        values = {'python': sys.executable, 'name': link.name}
        command: list[str] = []
        for word in shlex.split(link.command):
            command += arguments if word == '{arguments}' else [_filled(word, values)]
        self._commands.append(shlex.join(['kddense', *arguments]))
        with self._log.open('ab') as output:
            try:
                # A session of its own: the terminal's Ctrl-C reaches it through this process alone.
                self._process = subprocess.Popen(
                    command,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=[self._lock.fileno()],
                )
            except OSError as error:
                raise LinkError(
                    f"links.{link.name}.command: '{command[0]}' cannot be started: {error.strerror}"
                ) from error

    def _finish(self) -> None:
        result = result_of(self.version, self._commands, self._others)
        write_whole(self.version.folder / RESULT, (json.dumps(result, indent=2, ensure_ascii=False) + '\n').encode())

    @property
    def _log(self) -> Path:
        return self.version.folder / LOG

    def _tail(self, most: int = 20000) -> str:
        with self._log.open('rb') as log:
            log.seek(max(0, self._log.stat().st_size - most))
            return log.read().decode(errors='replace')

    def _reason(self, status: int) -> str:
        if status < 0:
            return f'its process was ended by {signal.Signals(-status).name}'
        lines = [line.strip() for line in self._tail().splitlines() if line.strip()]
        return lines[-1].removeprefix('error: ') if lines else f'status {status}'


def result_of(version: Version, commands: list[str], others: Mapping[str, Version]) -> dict[str, Any]:
    """Return what a link came to, of its folder."""
    test = version.folder / 'test'
    learnt = [others[name] for name in version.link.ensemble] or [version]
    scores = scores_in(json.loads(newest_metrics(test).read_text())) if test.exists() else {}
    return {
        'link': version.link.name,
        'row': version.link.row,
        'learns_from': list(version.link.needs),
        'config': version.link.config,
        'seed': version.link.seed,
        'steps': steps_of(Config.fromfile(version.folder / CONFIG, import_custom_modules=False))[0],
        'scores': scores,
        'parameters': sum(parameters_in(load_checkpoint(one.checkpoint)) for one in learnt),
        'minutes': 0.0 if version.link.ensemble else read_run(version.folder, version.link.name).minutes,
        'commands': commands,
        'finished': time.strftime('%Y-%m-%d %H:%M'),
    }


def _filled(word: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(f'{{{name}}}', value)
    return word


def _seconds(text: str) -> float:
    days, _, clock = text.rpartition(', ')
    hours, minutes, seconds = map(int, clock.split(':'))
    return (int(days.split()[0]) if days else 0) * 86400 + hours * 3600 + minutes * 60 + seconds


def locked(file: Path) -> IO[bytes] | None:
    """Return a file with a lock that only this process and those that it gives it to have; ``None`` if others have it."""
    opened = file.open('ab')
    try:
        import fcntl
    except ImportError:  # Windows
        return opened
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        opened.close()
        return None
    return opened
