"""What ``import kddense`` asks before it imports anything: a wheel without its extras says what to install."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def check() -> None:
    """Raise an ImportError of one sentence if a module is absent that all of kddense stands on.

    Modules are asked for, and not distributions: stock OpenMMLab and its forks bring the same ones under different names.
    """
    if _doctor_is_called():
        _run_doctor()
    from kddense_start.problems import INSTALL

    for name, mend in INSTALL.items():
        if name not in sys.modules and find_spec(name) is None:
            raise ImportError(f'kddense needs {name}, which is not installed: {mend}', name=name)


def _doctor_is_called() -> bool:
    """Tell whether Python is on its way to ``python -m kddense doctor``, for which it imports kddense first."""
    words = sys.orig_argv
    return sys.argv[:1] == ['-m'] and words[words.index('-m') + 1 :][:2] == ['kddense', 'doctor']


def _run_doctor() -> None:
    """Look at the environment before kddense fails in it, and end."""
    from kddense_start import doctor

    arguments = sys.argv[2:]
    sys.argv[0] = 'python -m kddense doctor'
    sys.modules.pop('kddense', None)  # imported anew, to see whether it can be
    sys.exit(doctor.main(arguments))
