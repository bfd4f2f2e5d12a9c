"""Many pictures made by several processes, which end with the one that waits for them."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait

import numpy as np

Job = tuple[str, int]  # a split, and the number of an image in it
Work = Callable[[str, int], None]

_LARGE_BLOCK = 2**24  # bytes; larger than any array of a picture of the default size


def keep_freed_memory() -> None:
    """Let the C library keep memory for the next picture, rather than return it after each and fetch it again.

    glibc returns what is larger than the largest block freed so far, up to 32 MiB: up to a tenth of the time goes there.
    """
    np.empty(_LARGE_BLOCK, np.uint8)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def done_here(work: Work, jobs: Sequence[Job]) -> Iterator[None]:
    """Do the jobs one after another in this process, and yield once for each that is done."""
    for job in jobs:
        work(*job)
        yield


def done_in_processes(work: Work, jobs: Sequence[Job], processes: int) -> Iterator[None]:
    """Deal the jobs out to processes, and yield once for each that is done.

    Raises:
        RuntimeError: If one of the processes is killed.
    """
    context = multiprocessing.get_context('fork' if 'fork' in multiprocessing.get_all_start_methods() else None)
    workers, reports = [], []
    for first in range(min(processes, len(jobs))):
        receiver, sender = context.Pipe(duplex=False)
        arguments = (work, jobs[first::processes], sender, os.getpid())
        worker = context.Process(target=_do, args=arguments, daemon=True)
        worker.start()
        sender.close()  # now its end is the worker's end
        workers.append(worker)
        reports.append(receiver)
    try:
        yield from _reported(reports, len(jobs))
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _reported(reports: list[Connection], count: int) -> Iterator[None]:
    """Yield once for each job that a worker reports as done."""
    done = 0
    while done < count:
        for report in wait(reports):
            assert isinstance(report, Connection)
            try:
                error = report.recv()
            except EOFError:
                reports.remove(report)
                if not reports:
                    message = 'a process was killed (out of memory?): run the same command again to go on'
                    raise RuntimeError(message) from None
                continue
            if error is not None:
                raise error
            done += 1
            yield


def _do(work: Work, jobs: Sequence[Job], report: Connection, parent: int) -> None:
    """Do jobs one after another, and report each; stop with the process that waits for them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for that one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.disable()  # no picture leaves cycles behind, and to look through all that is imported takes long
    for job in jobs:
        if os.getppid() != parent:
            return
        try:
            work(*job)
        except Exception as error:
            report.send(error)
            return
        report.send(None)
