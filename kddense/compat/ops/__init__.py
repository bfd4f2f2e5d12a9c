"""What stands in for ``mmcv._ext``: the functions that ``mmcv/ops/*.py`` calls, by the names and signatures it uses.

mmcv allocates most outputs itself and passes them in to be filled. It also asks, at import, for every operator of every
model ever written for it; so each name exists, and one that kddense does not offer says so when it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from .nms import nms
from .roi_align import roi_align_backward, roi_align_forward

__all__ = ['nms', 'roi_align_backward', 'roi_align_forward']


def _missing(name: str) -> Callable[..., NoReturn]:
    def operator(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            f"mmcv's compiled operator '{name}' has no stand-in in kddense: "
            'install compiled mmcv 2.1 (package mmcv in place of mmcv-lite) to use it'
        )

    operator.__name__ = operator.__qualname__ = name
    return operator


def __getattr__(name: str) -> Callable[..., Any]:
    if name.startswith('__'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return globals().get(name) or _missing(name)
