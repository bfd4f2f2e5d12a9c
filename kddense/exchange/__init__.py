"""The vocabulary: what passes between student, teachers and objectives, as dataclasses without behaviour of their own.

A *batch* is what the student was given. A *question* is what a teacher is asked: values at *taps*, and *opinions* on the
student's *samples*. An *answer* is what a model showed. Every sample, opinion and answer can be cut into those of single
images, and put together again.
"""

from ._rows import rows_of
from .answers import Answer, Batch, ImageFormat, Question, Shown, split_gradient
from .boxes import NEVER, AnchorSample, BoxOpinion, RoISample, others_as_background
from .dense import DenseOpinion, DenseSample
from .errors import ViewError
from .maps import DepthOpinion, DepthSample, MapOpinion, MapSample
from .mask_queries import MaskQueryOpinion
from .masks import MaskOpinion, MaskSample
from .queries import Queries, QueryOpinion

__all__ = [
    'NEVER',
    'AnchorSample',
    'Answer',
    'Batch',
    'BoxOpinion',
    'DenseOpinion',
    'DenseSample',
    'DepthOpinion',
    'DepthSample',
    'ImageFormat',
    'MapOpinion',
    'MapSample',
    'MaskOpinion',
    'MaskQueryOpinion',
    'MaskSample',
    'Queries',
    'QueryOpinion',
    'Question',
    'RoISample',
    'Shown',
    'ViewError',
    'others_as_background',
    'rows_of',
    'split_gradient',
]
