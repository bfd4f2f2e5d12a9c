"""The composite model: a student that trains as ever, teachers beside it, objectives between them."""

from .interfaces import let_configs_answer_for_students
from .model import Distiller

__all__ = ['Distiller']

let_configs_answer_for_students()
