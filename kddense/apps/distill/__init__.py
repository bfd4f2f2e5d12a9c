"""``kddense distill``: from a student's config and a teacher to a trained, tested student, in one call.

From Python, :class:`Distillation` does the same: ``Distillation('student.py', 'teacher.py', 'teacher.pth').run()``.
"""

from .choice import FAMILIES, Choice, Measured
from .choices import CHOICES
from .command import main
from .distillation import Distillation, DistillError

__all__ = ['CHOICES', 'FAMILIES', 'Choice', 'DistillError', 'Distillation', 'Measured', 'main']
