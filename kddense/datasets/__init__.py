"""Data sets, samplers and transforms."""

from .samplers import InfiniteVariantSampler, VariantSampler
from .teacher_image import LoadTeacherImage, MoveTogether
from .transforms import TEACHER_IMAGE, ShrinkForStudent
from .variants import VARIANT, VariantDataset

__all__ = [
    'TEACHER_IMAGE',
    'VARIANT',
    'InfiniteVariantSampler',
    'LoadTeacherImage',
    'MoveTogether',
    'ShrinkForStudent',
    'VariantDataset',
    'VariantSampler',
]
