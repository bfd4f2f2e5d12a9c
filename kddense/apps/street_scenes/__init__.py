"""Generated street scenes: a small world to try distillation in, for detectors, segmentors and depth estimators.

One geometry gives the picture, Cityscapes' label and instance ids, COCO's boxes and masks, and depth:

    >>> from kddense.apps.street_scenes import StreetScenes
    >>> frame = StreetScenes(seed=7).render('train', 0)
    >>> frame.image.shape, frame.label_ids.shape, frame.depth.dtype
    ((128, 256, 3), (128, 256), dtype('uint16'))

:meth:`StreetScenes.write` writes them in the official layouts. The same seed gives the same bytes in every file on every
machine: positions and colours come from PCG64's raw words by exact arithmetic alone, and the PNG files are put together
here rather than by a library.
"""

from .frame import Frame
from .writing import DIFFICULTIES, StreetScenes

__all__ = ['DIFFICULTIES', 'Frame', 'StreetScenes']
