"""What passes between models, objectives and those that show or export them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shown:
    """What of an objective can be shown in pictures.

    Attributes:
        student_tap: Where it looks at a feature in the student; ``None`` if nowhere.
        teacher_tap: Where it looks at a feature in the teacher.
        pairs: The kind whose places it compares pairwise, ``'pixels'`` or ``'scores'``; ``None`` if it compares none.
    """

    student_tap: str | None = None
    teacher_tap: str | None = None
    pairs: str | None = None
