"""A few depths in a channel of their own: what a laser beside the camera tells."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from kddense.registry import TRANSFORMS

from .transforms import TEACHER_IMAGE


@TRANSFORMS.register_module()
class AddSparseDepth:
    """Adds the depth of a few random pixels to the image, as a fourth channel in metres; 0 elsewhere and where unknown.

    Put it last before the packing transform, after ``LoadDepthAnnotation``. A teacher that is given it learns, and tells,
    depth from an image and a few depths; its own config has ``key='img'``, ``in_channels=4`` and four means.

    Args:
        points: How many pixels are drawn.
        fixed: Draw them by the image's path alone: each time the same; for tests.
        key: The name under which image and depths are kept: ``'teacher_img'`` for the teacher alone (give it
            ``image='teacher_img'``, and add that to the packing transform's ``meta_keys``), ``'img'`` in the image's place.

    Raises:
        ValueError: If ``points`` is below 1, or an image has no depth.

    Example:
        >>> pipeline = [
        ...     dict(type='LoadImageFromFile'),
        ...     dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3),
        ...     dict(type='kddense.AddSparseDepth', points=200),
        ...     dict(type='PackSegInputs', meta_keys=('img_path', 'img_shape', 'teacher_img'))]
    """

    def __init__(self, points: int = 200, fixed: bool = False, key: str = TEACHER_IMAGE) -> None:
        if points < 1:
            raise ValueError(f'points must be at least 1, got {points}')
        self.points = points
        self.fixed = fixed
        self.key = key

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Keep the image, height x width x 3, with the depths as ``results[key]``, height x width x 4 in float32."""
        if 'gt_depth_map' not in results:
            raise ValueError(
                f"AddSparseDepth: the image '{results.get('img_path')}' has no depth; put LoadDepthAnnotation before it"
            )
        image, depth = results['img'], results['gt_depth_map']
        height, width = image.shape[:2]
        rows, columns = np.divmod(self._drawn(results).randint(0, height * width, self.points), width)
        sparse = np.zeros((height, width, 1), np.float32)
        # A test's depth keeps its own size, where the image was resized.
        sparse[rows, columns, 0] = depth[rows * depth.shape[0] // height, columns * depth.shape[1] // width]
        results[self.key] = np.concatenate([image.astype(np.float32), sparse], axis=-1)
        return results

    def _drawn(self, results: dict[str, Any]) -> Any:
        if not self.fixed:
            return np.random
        return np.random.RandomState(zlib.crc32(str(results.get('img_path', '')).encode()))
