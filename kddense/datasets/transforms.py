"""A large image for the teacher, a small one for the student."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from mmengine.registry import TRANSFORMS as ALL_TRANSFORMS

from kddense.registry import TRANSFORMS, Plain

TEACHER_IMAGE = 'teacher_img'  # of a data sample: the image that is kept for the teacher
PIPELINES_OF_TESTS = ('val', 'test', 'tta')


@TRANSFORMS.register_module()
class ShrinkForStudent:
    """Keeps the image for the teacher and goes on with a smaller one (Chen et al., section 4.2: high-resolution teacher).

    Put it last before the packing transform, add ``'teacher_img'`` to that one's ``meta_keys``, and give the teacher
    ``input_scale=factor``. Boxes, masks and label maps shrink along with the student's image.

    Args:
        factor: How many times as large the teacher's image is, above 1.
        resize: The transform that shrinks, without its ``scale_factor``; the ``Resize`` of the config's default scope.

    Example:
        >>> pipeline = [
        ...     dict(type='Resize', scale=(1333, 800), keep_ratio=True),
        ...     dict(type='kddense.ShrinkForStudent', factor=2),
        ...     dict(type='PackDetInputs', meta_keys=('img_id', 'img_shape', 'ori_shape', 'scale_factor', 'teacher_img'))]
    """

    def __init__(self, factor: float, resize: dict[str, Any] | None = None) -> None:
        if not 1 < factor < float('inf'):
            raise ValueError(f'factor must be above 1, got {factor}')
        self.shrink = ALL_TRANSFORMS.build(_resize(factor, resize))

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Shrink ``results['img']`` and keep the original, height x width x 3, as ``results['teacher_img']``."""
        results[TEACHER_IMAGE] = np.ascontiguousarray(results['img'])  # a flipped image is a view that no tensor takes
        before = results.get('scale_factor', (1.0, 1.0))
        results = self.shrink(results)
        results['scale_factor'] = tuple(old * new for old, new in zip(before, results['scale_factor'], strict=True))
        return results

    @staticmethod
    def plain(config: Mapping[str, Any], place: str) -> Plain:
        """Return a ``Resize`` in a training pipeline; see :class:`kddense.registry.Plain`."""
        if place.startswith(PIPELINES_OF_TESTS):
            return Plain(
                (config,)
            )  # two Resize in a row would lose the scale by which boxes are taken back to the image
        return Plain((_resize(config['factor'], config.get('resize')),))


def _resize(factor: float, resize: Mapping[str, Any] | None) -> dict[str, Any]:
    return dict(resize or dict(type='Resize', keep_ratio=True), scale_factor=1 / factor)
