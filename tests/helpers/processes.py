"""Scripts that tests run in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parent / 'scripts'
# Seconds after which a process hangs; beside other work, what takes ten may take minutes.
PATIENCE = 1800


@dataclass(frozen=True)
class StockScript:
    """A script that OpenMMLab's package brought along, such as ``tools/train.py``.

    Attributes:
        package: ``'mmdet'`` or ``'mmseg'``.
        name: The name of the script.
        python: The interpreter.
    """

    package: str
    name: str
    python: str = sys.executable

    def start(self, *arguments: object, cwd: Path, **options: Any) -> subprocess.Popen:
        """Start it in a process of its own."""
        origin = find_spec(self.package).origin
        script = Path(origin).parent / '.mim' / 'tools' / self.name
        path = os.pathsep.join(filter(None, [str(SCRIPTS), os.environ.get('PYTHONPATH')]))
        environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': path, 'PYTHONWARNINGS': 'ignore'}
        command = [self.python, str(script), *map(str, arguments)]
        return subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
        )

    def run(self, *arguments: object, cwd: Path) -> str:
        """Run it to its end; returns what it printed."""
        process = self.start(*arguments, cwd=cwd)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
        return output
