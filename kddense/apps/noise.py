"""What OpenMMLab says in every run and nobody can act on: left out where kddense starts runs, by whole known messages.

Anything else that warns is shown, and the stock scripts show all.
"""

from __future__ import annotations

import logging
import re
import warnings
from typing import Any

from mmengine.runner import Runner

# How they begin; each is about code of mmengine, mmcv, mmdet or mmseg themselves.
KNOWN_WARNINGS = (
    'pkg_resources is deprecated as an API',
    '``build_loss`` would be deprecated soon, please use ``mmseg.registry.MODELS.build()``',
    'Default ``avg_non_ignore`` is False, if you would like to ignore the certain label',
    'The draw is False, it means that the hook for visualization will not take effect',
    'DeprecationWarning: pretrained is deprecated, please use "init_cfg" instead',
    '`torch.cuda.amp.GradScaler(args...)` is deprecated',
    '`torch.cpu.amp.GradScaler(args...)` is deprecated',
    'torch.meshgrid: in an upcoming release, it will be required to pass the indexing argument',
)
KNOWN_LOGS = (
    '"FileClient" will be deprecated in future.',
    '"HardDiskBackend" is the alias of "LocalBackend" and the former will be deprecated in future.',
    'The prefix is not set in metric class',
    'Failed to search registry with scope "mmdet" in the "',
    'Failed to search registry with scope "mmseg" in the "',
)


class QuietRunner(Runner):
    """mmengine's runner, whose log leaves out what is known to mean nothing."""

    def build_logger(self, *args: Any, **kwargs: Any) -> Any:
        """Build the log, as mmengine does."""
        logger = super().build_logger(*args, **kwargs)
        logger.addFilter(is_news)
        return logger


def is_news(record: logging.LogRecord) -> bool:
    """Tell whether a record of the log is none of the known ones."""
    return record.levelno > logging.WARNING or not record.getMessage().startswith(KNOWN_LOGS)


def ignore_known_warnings() -> None:
    """Ignore the known warnings of Python in this process, unless it was started to show all (``python -W``)."""
    for message in KNOWN_WARNINGS:
        warnings.filterwarnings('ignore', r'\s*' + re.escape(message))
