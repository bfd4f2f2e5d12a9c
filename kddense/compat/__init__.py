"""What lets stock mmdet and mmseg run on today's PyTorch.

- :func:`enable` stands in for mmcv's compiled operators where they are absent (mmcv-lite), and lets mmengine read its
  own checkpoints back on PyTorch 2.6 and later, lets ``--amp`` train on a CPU, and lets configs name those of kddense.
  Importing ``kddense`` calls it.
- ``python -m kddense.compat install`` makes the first two hold in every process, also in those that never import kddense.
- :func:`load_checkpoint` reads a checkpoint as data, never as code.

Nothing in here imports the rest of kddense: the installed stand-in loads this package while mmdet is half imported.
"""

from __future__ import annotations

import mmengine.config.config

from kddense_start import names

from .amp import register_amp
from .checkpoint import load_checkpoint, register_safe_globals
from .standin import State, install, register_operators, state, uninstall

__all__ = [
    'State',
    'enable',
    'install',
    'load_checkpoint',
    'register_amp',
    'register_operators',
    'register_safe_globals',
    'state',
    'uninstall',
]


def enable() -> None:
    """Provide what is missing in this process; a second call does nothing."""
    register_operators()
    register_safe_globals()
    register_amp()
    names.teach(mmengine.config.config)
