"""Running a programme: links as soon as what they learn from is done, some side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from .process import LinkError, Work
from .versions import Version

LOOK = 0.2  # seconds between looks at the processes
TELL = 15.0  # and between lines of progress


class FailedError(RuntimeError):
    """Links that failed; the message has a sentence for each."""


def run(versions: Mapping[str, Version], jobs: int, say: Callable[[str], None]) -> None:
    """Train and test what is not done.

    Args:
        versions: All links in order.
        jobs: How many may run at the same time.
        say: Takes lines about what happens.

    Raises:
        FailedError: If links failed, when all that does not hang on them is done.
        KeyboardInterrupt: After all running links have ended with checkpoints.
    """
    waiting = [version for version in versions.values() if not version.is_done]
    _Run(versions, waiting, jobs, say).to_its_end()


class _Run:
    def __init__(
        self, versions: Mapping[str, Version], waiting: list[Version], jobs: int, say: Callable[[str], None]
    ) -> None:
        self.versions, self.waiting, self.jobs, self.say = versions, waiting, jobs, say
        self.running: list[Work] = []
        self.elsewhere: set[str] = set()
        self.faults: list[str] = []
        self._told = time.monotonic()
        self._lasted: list[float] = []
        self._begun: dict[str, float] = {}

    def to_its_end(self) -> None:
        try:
            while self.running or self.waiting:
                self._start_what_can()
                if not self.running and not self.waiting:
                    break
                time.sleep(LOOK)
                self._look_after()
                self._tell()
        except KeyboardInterrupt:
            for work in self.running:
                work.interrupt()
            raise
        finally:
            for work in self.running:
                work.close()
        if self.faults:
            raise FailedError('; '.join(self.faults))

    def _start_what_can(self) -> None:
        for version in list(self.waiting):
            name = version.link.name
            if version.is_done:
                self.waiting.remove(version)
                continue
            failed = [one for one in version.link.needs if not self.versions[one].is_done and not self._comes(one)]
            if failed:
                self.waiting.remove(version)
                self.faults.append(f'links.{name} was not run, it learns from {", ".join(failed)}')
                continue
            if len(self.running) >= self.jobs or not all(self.versions[one].is_done for one in version.link.needs):
                continue
            self._start(version)

    def _comes(self, name: str) -> bool:
        return any(one.link.name == name for one in [*self.waiting, *(work.version for work in self.running)])

    def _start(self, version: Version) -> None:
        name = version.link.name
        try:
            work = Work(version, self.versions)
        except (LinkError, OSError, ValueError) as error:
            self.waiting.remove(version)
            self._note(error)
            return
        if work.is_elsewhere:
            if name not in self.elsewhere:
                self.say(f'{name}: another call is at work on it, waiting for that')
            self.elsewhere.add(name)
            return
        self.say(f'{name}: {version.folder}')
        self._begun[name] = time.monotonic()
        self.waiting.remove(version)
        self.running.append(work)

    def _look_after(self) -> None:
        for work in list(self.running):
            name = work.version.link.name
            try:
                if not work.has_ended():
                    continue
                self._lasted.append(time.monotonic() - self._begun[name])
                self.say(f'{name}: done')
            except (LinkError, OSError, ValueError) as error:
                self._note(error)
            work.close()
            self.running.remove(work)

    def _note(self, error: Exception) -> None:
        self.faults.append(str(error))
        self.say(f'error: {error}')

    def _tell(self) -> None:
        if time.monotonic() - self._told < TELL or not self.running:
            return
        self._told = time.monotonic()
        found = [(*work.progress(), self._begun[work.version.link.name]) for work in self.running]
        lasted = [*self._lasted, *(time.monotonic() - begun + (left or 0) for _, left, begun in found)]
        waiting = sum(lasted) / len(lasted) * len(self.waiting) / self.jobs
        whole = max(left or 0 for _, left, _ in found) + waiting
        known = all(seconds is not None for _, seconds, _ in found)
        about = f'; all links in about {time.strftime("%H:%M:%S", time.gmtime(whole))}' if known else ''
        self.say('; '.join(text for text, *_ in found) + about)
