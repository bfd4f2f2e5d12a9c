"""Data sets, samplers and transforms."""

from .degrade import DegradeForStudent
from .samplers import InfiniteVariantSampler, VariantSampler
from .sparse_depth import AddSparseDepth
from .teacher_image import LoadTeacherImage, MoveTogether
from .transforms import TEACHER_IMAGE, ShrinkForStudent
from .unlabelled import UnlabelledImages
from .variants import VARIANT, VariantDataset

__all__ = [
    'TEACHER_IMAGE',
    'VARIANT',
    'AddSparseDepth',
    'DegradeForStudent',
    'InfiniteVariantSampler',
    'LoadTeacherImage',
    'MoveTogether',
    'ShrinkForStudent',
    'UnlabelledImages',
    'VariantDataset',
    'VariantSampler',
]
