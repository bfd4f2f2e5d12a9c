"""A config that distils in the libraries' own interfaces: what only predicts gets the student, without teachers.

``init_detector``, ``init_model`` and the inferencers read a config, change parts of its model (``config.model.backbone``)
and build it. None says that it will not train, and the first call of a process imports kddense while it reads the config,
too late for another function in its place. So the config of a distiller answers for its student, and a distiller looks who
builds it.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from mmengine.config import ConfigDict

from kddense.configs import is_distiller

INFERENCERS = 'mmengine.infer'
INTERFACES = '.apis.inference'  # of mmdet, mmseg and the other libraries


def is_for_inference() -> bool:
    """Tell whether what is being built was asked for by an interface that only predicts."""
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get('__name__', '')
        if module.startswith(INFERENCERS) or module.endswith(INTERFACES):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def let_configs_answer_for_students() -> None:
    """Let the config of a distiller answer for its student where it lacks an attribute, as the distiller itself does."""
    plain = ConfigDict.__getattr__
    if getattr(plain, 'answers_for_students', False):
        return

    @functools.wraps(plain)
    def answer(self: ConfigDict, name: str) -> Any:
        try:
            return plain(self, name)
        except AttributeError:
            student = self.get('student')
            if not isinstance(student, ConfigDict) or 'type' not in self or not is_distiller(self):
                raise
            return getattr(student, name)

    answer.answers_for_students = True  # type: ignore[attr-defined]
    ConfigDict.__getattr__ = answer
