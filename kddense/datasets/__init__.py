"""Data sets, samplers and transforms."""

from .degrade import DegradeForStudent
from .named import DATASET, LABELLED_CLASSES, NamedDataset, dataset_names
from .pseudo_labels import PseudoLabels
from .samplers import InfiniteVariantSampler, VariantSampler
from .sparse_depth import AddSparseDepth
from .teacher_image import LoadTeacherImage, MoveTogether
from .transforms import TEACHER_IMAGE, ShrinkForStudent
from .unlabelled import UnlabelledImages
from .variants import VARIANT, VariantDataset

__all__ = [
    'DATASET',
    'LABELLED_CLASSES',
    'TEACHER_IMAGE',
    'VARIANT',
    'AddSparseDepth',
    'DegradeForStudent',
    'InfiniteVariantSampler',
    'LoadTeacherImage',
    'MoveTogether',
    'NamedDataset',
    'PseudoLabels',
    'ShrinkForStudent',
    'UnlabelledImages',
    'VariantDataset',
    'VariantSampler',
    'dataset_names',
]
