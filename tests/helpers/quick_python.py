"""A Python that has imported PyTorch, mmdet and mmseg before it is asked to run anything.

Importing them takes five seconds of processor time, which is more than most scripts of the tests take for their work. So
one process imports them, and each script runs in a process of its own that is forked from it: with its own memory, folder,
environment, arguments, signals and exit status, and without ``kddense``, which it imports for itself. What takes mmengine
and PyTorch long and changes no result is left out, see :func:`quick_changes`.

``main`` is that process. ``CLIENT`` is a program that stands in for the interpreter: it hands its arguments over, lends its
input and output, passes signals on, and ends as the script ends.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

BEFOREHAND = (
    'numpy',
    'torch.distributed.run',
    'torchvision',
    'mmengine.runner',
    *(
        f'{package}.{part}'
        for package in ('mmdet', 'mmseg')
        for part in ('apis', 'datasets', 'engine', 'visualization')
    ),
)

CLIENT = """\
#!{python} -IS
import json, os, signal, socket, sys
forwarded = {{signal.SIGINT, signal.SIGTERM}}
signal.pthread_sigmask(signal.SIG_BLOCK, forwarded)
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
socket.send_fds(connection, [b'.'], [0, 1, 2])
request = dict(program=sys.argv[0], arguments=sys.argv[1:], folder=os.getcwd(), variables=dict(os.environ))
connection.sendall(json.dumps(request).encode() + b'\\n')
answers = connection.makefile()
process = int(next(answers))
signal.signal(signal.SIGTERM, lambda number, frame: os.kill(process, number))
signal.signal(signal.SIGINT, lambda number, frame: os.killpg(process, number))  # as a terminal does
signal.pthread_sigmask(signal.SIG_UNBLOCK, forwarded)
status = int(next(answers))
if status < 0:
    signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


def quick_changes() -> Iterator[tuple[Any, str, Any]]:
    """Yield what to change in mmengine and PyTorch, as arguments of ``setattr``.

    mmengine formats a run's config for the log and for each checkpoint, which takes longer than a toy training. For each
    config of another package it reads all of that package's metafiles, and for each run it asks compilers for their
    versions; here, once. And for each data set it lets Python look for garbage among all objects of the process.

    PyTorch waits five seconds for each worker of a data loader that is found among garbage: in vain, since the queue by
    which it would tell the worker to end is garbage too.
    """
    from mmengine.config import config, utils
    from mmengine.dataset import base_dataset
    from mmengine.runner import runner
    from torch.utils.data import _utils as loading

    if hasattr(config, 'FormatCode'):
        yield config, 'FormatCode', lambda text, **_: (text, True)
    yield config, 'is_installed', functools.cache(config.is_installed)
    yield utils, 'load', functools.cache(utils.load)
    yield runner, 'collect_env', functools.cache(runner.collect_env)
    yield base_dataset, 'gc', SimpleNamespace(collect=lambda: 0)
    yield loading, 'MP_STATUS_CHECK_INTERVAL', 0.2


class QuickPython:
    """The process that forks, started with the first script.

    Args:
        folder: Where to put its socket and the program that stands in for the interpreter.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen | None = None

    @property
    def program(self) -> str:
        """What to write for ``python`` in a command."""
        if self._process is None:
            self._start()
        return str(self._folder / 'python')

    def _start(self) -> None:
        address, program = self._folder / 'socket', self._folder / 'python'
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(address))
            listening.listen()
            command = [sys.executable, __file__, str(listening.fileno())]
            descriptor = [listening.fileno()]
            self._process = subprocess.Popen(command, pass_fds=descriptor, start_new_session=True)
        program.write_text(CLIENT.format(python=sys.executable, address=str(address)))
        program.chmod(0o755)

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


def main() -> None:
    """Import, and then fork a process for each script that is asked for."""
    listening = socket.socket(fileno=int(sys.argv[1]))
    del sys.path[0]  # this folder
    warnings.simplefilter('ignore')
    for module in BEFOREHAND:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    for change in quick_changes():
        setattr(*change)
    importlib.import_module('mmengine.runner.runner').collect_env()  # once for all scripts
    gc.freeze()  # what was imported stays: the scripts' collections of garbage need not look at it
    while True:
        connection, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            _serve(connection)
        connection.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _serve(connection: socket.socket) -> None:
    """Fork a process that runs the script, and tell the client how it ends; end it if the client is gone."""
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
    request = json.loads(connection.makefile().readline())
    process = os.fork()
    if process == 0:
        connection.close()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        _end(_run(**request))
    for descriptor in descriptors:
        os.close(descriptor)
    connection.sendall(f'{process}\n'.encode())
    ended = os.pidfd_open(process)
    if connection in select.select([ended, connection], [], [])[0]:
        os.kill(process, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with contextlib.suppress(OSError):
        connection.sendall(f'{status}\n'.encode())
    os._exit(0)


def _run(program: str, arguments: list[str], folder: str, variables: dict[str, str]) -> int:
    """Do what Python does with such arguments, in this process; returns the exit status."""
    import numpy as np

    os.setsid()
    ours = os.environ.get('PYTHONPATH', '').split(os.pathsep)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.executable = program  # what the script starts is quick, too
    theirs = filter(None, variables.get('PYTHONPATH', '').split(os.pathsep))
    sys.path[:] = [*theirs, *(path for path in sys.path if path not in ours)]
    random.seed()
    np.random.seed()
    try:
        _execute(arguments)
    except SystemExit as exit:
        if isinstance(exit.code, str):
            print(exit.code, file=sys.stderr)
        return exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _execute(arguments: list[str]) -> None:
    """Run ``script ...``, ``-m module ...`` or ``-c code ...``."""
    while arguments[0] in ('-u', '-W'):
        arguments = arguments[2 if arguments[0] == '-W' else 1 :]
    what, *rest = arguments
    if what == '-m':
        sys.path.insert(0, os.getcwd())
        sys.argv = rest
        runpy.run_module(rest[0], run_name='__main__', alter_sys=True)
    elif what == '-c':
        sys.path.insert(0, '')
        sys.argv = ['-c', *rest[1:]]
        exec(compile(rest[0], '<string>', 'exec'), {'__name__': '__main__'})
    else:
        sys.path.insert(0, os.path.dirname(os.path.abspath(what)))
        sys.argv = arguments
        runpy.run_path(what, run_name='__main__')


def _end(status: int) -> None:
    """End this process as an interpreter would."""
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


if __name__ == '__main__':
    main()
