"""An image that the teacher alone is given: depth, another sensor, a cleaner picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import TRANSFORMS as ALL_TRANSFORMS

from kddense.registry import TRANSFORMS

from .transforms import TEACHER_IMAGE


@TRANSFORMS.register_module()
class LoadTeacherImage:
    """Loads the file that belongs to the student's image, unchanged: of any number of channels, 8 or 16 bits.

    Give the teacher ``image='teacher_img'``, add ``'teacher_img'`` to the ``meta_keys`` of the packing transform, and put
    the transforms that move pixels into :class:`MoveTogether`.

    Args:
        replace: What in the path of the student's image to replace, and by what, such as ``('images/', 'depth/')``.
        suffix: The file's suffix, ``'.png'`` say; that of the student's image by default.
        key: The name under which it is kept.
        **kwargs: More arguments of mmcv's ``LoadImageFromFile``.

    Raises:
        ValueError: If ``replace`` is no pair, or a path does not contain what is to be replaced.
        FileNotFoundError: If an image has no such file.

    Example:
        >>> train_pipeline = [
        ...     dict(type='LoadImageFromFile'),
        ...     dict(type='kddense.LoadTeacherImage', replace=('images/', 'depth/'), suffix='.png'),
        ...     dict(type='LoadAnnotations'),
        ...     dict(type='kddense.MoveTogether', transforms=[dict(type='RandomFlip', prob=0.5)]),
        ...     dict(type='PackSegInputs', meta_keys=('img_path', 'ori_shape', 'img_shape', 'teacher_img'))]
    """

    def __init__(
        self, replace: tuple[str, str], suffix: str | None = None, key: str = TEACHER_IMAGE, **kwargs: Any
    ) -> None:
        from mmcv.transforms import LoadImageFromFile  # here, because kddense can be imported without mmcv

        self.replace = replace
        self.suffix = suffix
        self.key = key
        self.load = LoadImageFromFile(color_type='unchanged', **kwargs)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load the file that belongs to ``results['img_path']``, height x width (x channels), as ``results[key]``."""
        loaded = self.load(dict(img_path=self.path_of(str(results['img_path']))))
        results[self.key] = loaded['img']
        return results

    def path_of(self, image: str) -> str:
        """Return the path of the file that belongs to an image."""
        old, new = self.replace
        if old not in image:
            raise ValueError(f"LoadTeacherImage.replace: there is no '{old}' in the path of the image '{image}'")
        path = Path(image.replace(old, new))
        path = path.with_suffix(self.suffix) if self.suffix else path
        if not path.is_file():
            raise FileNotFoundError(f"LoadTeacherImage: the image '{image}' has no file '{path}' for the teacher")
        return str(path)


@TRANSFORMS.register_module()
class MoveTogether:
    """Applies transforms that move pixels (flips, crops, resizing) to the student's image and the teacher's alike.

    Both are stacked to one image while the transforms run, which thus also move boxes, masks and label maps as ever. Leave
    transforms outside that change colours.

    Args:
        transforms: Configs of the transforms.
        key: The name of the teacher's image, of the same height and width as the student's.

    Raises:
        ValueError: If the two images differ in size.
    """

    def __init__(self, transforms: Sequence[Mapping[str, Any]], key: str = TEACHER_IMAGE) -> None:
        self.transforms = [ALL_TRANSFORMS.build(dict(one)) for one in transforms]
        self.key = key

    def __call__(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Return the moved results, ``None`` if a transform gives the image up."""
        own, other = results['img'], results[self.key]
        if own.shape[:2] != other.shape[:2]:
            raise ValueError(
                f"MoveTogether: the image '{results.get('img_path')}' is of {own.shape[:2]}, its '{self.key}' of "
                f'{other.shape[:2]}: they must be of one size'
            )
        moved: dict[str, Any] | None = dict(results, img=np.dstack([own, other]).astype(np.float32))
        for transform in self.transforms:
            moved = transform(moved) if moved is not None else None
        if moved is None:
            return None
        stacked, channels = moved['img'], 1 if own.ndim == 2 else own.shape[2]
        moved['img'] = _as(stacked[..., :channels], own)
        moved[self.key] = _as(stacked[..., channels:], other)
        return moved


def _as(moved: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return a moved image with the type and the number of dimensions of another."""
    moved = moved.reshape(moved.shape[:2]) if like.ndim == 2 else moved
    if not np.issubdtype(like.dtype, np.integer):
        return np.ascontiguousarray(moved.astype(like.dtype))
    limits = np.iinfo(like.dtype)
    return np.ascontiguousarray(np.rint(moved).clip(limits.min, limits.max).astype(like.dtype))
