"""A worse image for the student, the clean one for the teacher."""

from __future__ import annotations

import zlib
from typing import Any

import cv2
import numpy as np

from kddense.registry import TRANSFORMS

from .transforms import TEACHER_IMAGE


@TRANSFORMS.register_module()
class DegradeForStudent:
    """Blurs the student's image and adds noise; the clean one is kept for the teacher.

    Put it last before the packing transform, of tests too, and there with ``fixed=True``. Give the teacher
    ``image='teacher_img'``, and add ``'teacher_img'`` to the ``meta_keys`` of the training's packing transform.

    Args:
        noise: Standard deviation of the noise, in grey values of 0 to 255.
        blur: Standard deviation of the Gaussian blur, in pixels, before the noise.
        fixed: Draw the noise by the image's path alone: each time the same.
        key: The name under which the clean image is kept.

    Raises:
        ValueError: If a number is negative, or both are 0.
    """

    def __init__(self, noise: float = 25.0, blur: float = 1.0, fixed: bool = False, key: str = TEACHER_IMAGE) -> None:
        for name, value in (('noise', noise), ('blur', blur)):
            if value < 0:
                raise ValueError(f'{name} must be at least 0, got {value}')
        if noise == blur == 0:
            raise ValueError('noise and blur are both 0: the student would see the clean image')
        self.noise = noise
        self.blur = blur
        self.fixed = fixed
        self.key = key

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Degrade ``results['img']``, height x width x channels, and keep the original as ``results[key]``."""
        clean = np.ascontiguousarray(results['img'])
        results[self.key] = clean
        image: Any = clean.astype(np.float32)
        if self.blur:
            image = cv2.GaussianBlur(image, (0, 0), self.blur).reshape(clean.shape)
        if self.noise:
            path = str(results.get('img_path', ''))
            drawn = np.random.RandomState(zlib.crc32(path.encode())) if self.fixed else np.random
            image = image + self.noise * drawn.standard_normal(clean.shape).astype(np.float32)
        results['img'] = image.clip(0, 255).astype(clean.dtype)
        return results
