"""Teachers: trained models that answer questions, and are never part of what is trained.

A teacher is chosen by ``type``; without one it is a :class:`FrozenTeacher`, config and checkpoint. A type of one's own
derives from :class:`Teacher` and is registered in :data:`kddense.registry.TEACHERS`.
"""

from .average import AverageTeacher
from .base import Teacher
from .build import build_teacher, is_one_teacher
from .cached import CachedTeacher
from .ensemble import EnsembleTeacher
from .frozen import FrozenTeacher
from .module import ModuleTeacher
from .one_model import ModelTeacher
from .timm_model import TimmTeacher
from .weights import load_weights

__all__ = [
    'AverageTeacher',
    'CachedTeacher',
    'EnsembleTeacher',
    'FrozenTeacher',
    'ModelTeacher',
    'ModuleTeacher',
    'Teacher',
    'TimmTeacher',
    'build_teacher',
    'is_one_teacher',
    'load_weights',
]
