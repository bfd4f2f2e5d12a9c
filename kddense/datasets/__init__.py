"""Data transforms."""

from .teacher_image import LoadTeacherImage, MoveTogether
from .transforms import TEACHER_IMAGE, ShrinkForStudent

__all__ = ['TEACHER_IMAGE', 'LoadTeacherImage', 'MoveTogether', 'ShrinkForStudent']
