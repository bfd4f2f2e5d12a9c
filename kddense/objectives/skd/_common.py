"""What the three objectives of structured distillation share."""

from __future__ import annotations

from kddense.views import ModelView

MODES = ('paper', 'code')


def check_mode(mode: str) -> None:
    """Raise a ValueError unless ``mode`` is the paper's or the released code's."""
    if mode not in MODES:
        raise ValueError(f"mode must be 'paper' or 'code', got {mode!r}")


def either_is_depth(student: ModelView, teacher: ModelView) -> bool:
    """Tell whether one of the models estimates depth."""
    return student.shows_depth or teacher.shows_depth


def kind_of_classes(view: ModelView, kind: str) -> str:
    """Return ``'sigmoid'`` if the heads of ``kind`` decide each class on its own, else ``'softmax'``."""
    return 'sigmoid' if view.is_sigmoid(kind) else 'softmax'
