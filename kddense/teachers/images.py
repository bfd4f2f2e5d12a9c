"""Showing one batch of images to two networks that normalise, order and pad them differently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kddense.connectors import scaled_size
from kddense.datasets import TEACHER_IMAGE
from kddense.exchange import Batch, ImageFormat

STUDENT_IMAGE = 'student'


class TeacherImages:
    """Makes a teacher's inputs of a student's batch.

    Args:
        image_format: The teacher's.
        scale: Size of the image that it sees, relative to the student's.
        key: The key in ``metainfo`` of the image that it is given instead of the student's, ``None`` for the student's.
        name: What messages call the teacher.
        size: Height and width of the only images that it takes: the student's, padding included, are stretched to it.
    """

    def __init__(
        self,
        image_format: ImageFormat,
        scale: float,
        key: str | None,
        name: str,
        size: Sequence[int] | None = None,
    ) -> None:
        self.image_format = image_format
        self.scale = scale
        self.key = key
        self.name = name
        self.size = size

    def of(self, batch: Batch) -> tuple[Tensor, tuple[int, ...]]:
        """Return the teacher's inputs, and the height and width of the part that the student's inputs cover."""
        own = self.image_format
        kept = self._kept(batch)
        if kept:
            canvas = scaled_size(batch.inputs.shape[-2:], self.scale)
            raw = [self._raw(image).to(batch.inputs.device).float()[None] for image in kept]
            seen = [translate(image, ImageFormat(), own, [image.shape[-2:]])[0] for image in raw]
            images = fit_canvas(seen, canvas, own.pad_value)
        else:
            sizes = [_size(sample, batch) for sample in batch.data_samples]
            images = rescale(translate(batch.inputs.float(), batch.image_format, own, sizes), self.scale)
        if self.size is not None:
            images = F.interpolate(images, size=tuple(self.size), mode='bilinear', align_corners=False, antialias=True)
            return images, tuple(self.size)
        covered = tuple(images.shape[-2:])
        return pad_to_divisor(images, own.size_divisor, own.pad_value), covered

    def sizes(self, batch: Batch, images: Tensor) -> tuple[Any, ...]:
        """Return data samples that hold the sizes of the images as the teacher sees them, and no labels."""
        canvas = tuple(images.shape[-2:])
        return tuple(self._sized(sample, batch, canvas) for sample in batch.data_samples)

    def _sized(self, sample: Any, batch: Batch, canvas: tuple[int, ...]) -> Any:
        size = tuple(scaled_size(_size(sample, batch), self.scale))
        own = {key: sample.metainfo[key] for key in ('img_id', 'img_path', 'ori_shape') if key in sample.metainfo}
        return type(sample)(metainfo=dict(own, img_shape=size, pad_shape=canvas, batch_input_shape=canvas))

    def _kept(self, batch: Batch) -> list[Any]:
        """Return the images that the pipeline kept for this teacher, one for each of the batch, or none."""
        key = self.key or TEACHER_IMAGE
        images = [sample.metainfo.get(key) for sample in batch.data_samples]
        pairs = list(zip(images, batch.data_samples, strict=True))
        if self.key == STUDENT_IMAGE or (self.key is None and self._is_for_others(pairs, batch)):
            return []
        for number, (image, sample) in enumerate(pairs):
            if image is None:
                which = sample.metainfo.get('img_path', f'number {number} of the batch')
                raise ValueError(
                    f"{self.name}.image is '{key}', but the image {which} has none: let the pipeline keep one for every "
                    f"image, and add '{key}' to the meta_keys of its last transform"
                )
            self._check_size(image, sample, batch)
        return images

    def _is_for_others(self, pairs: Sequence[tuple[Any, Any]], batch: Batch) -> bool:
        """Tell whether what the pipeline kept, if anything, is not for a teacher that names no image.

        A larger image is, it is of :class:`kddense.ShrinkForStudent`; one of the student's size is for whoever names it.
        """
        sizes = [(tuple(image.shape[:2]), _size(sample, batch)) for image, sample in pairs if image is not None]
        return not sizes or (self.scale == 1 and all(own == other for own, other in sizes))

    def _check_size(self, image: Any, sample: Any, batch: Batch) -> None:
        wanted = [length * self.scale for length in _size(sample, batch)]
        if any(abs(own - want) > self.scale + 1 for own, want in zip(image.shape[:2], wanted, strict=True)):
            raise ValueError(
                f'{self.name}.input_scale is {self.scale:g}, but the image kept for it is of {tuple(image.shape[:2])} where '
                f"the student's is of {_size(sample, batch)}: set input_scale to the factor between them, or image="
                f"'{STUDENT_IMAGE}' if it is not for this teacher"
            )

    def _raw(self, image: Any) -> Tensor:
        """Return an image (H, W) or (H, W, C) as a tensor (C, H, W)."""
        tensor = torch.as_tensor(image)
        tensor = tensor[None] if tensor.dim() == 2 else tensor.permute(2, 0, 1)
        channels = self.image_format.channels
        if channels and len(tensor) != channels:
            raise ValueError(f"{self.name} takes {channels} channels, the image under '{self.key}' has {len(tensor)}")
        return tensor


def only_size(image_size: int | Sequence[int] | None, patch: int, scale: float, name: str) -> tuple[int, int] | None:
    """Return height and width of the only images that a teacher takes.

    Args:
        image_size: Both, or one number for both; ``None`` for a teacher of any size.
        patch: Of what they must be multiples, so that a map of whole cells covers all of the image.
        scale: The teacher's ``input_scale``.
        name: The teacher's config key.

    Raises:
        ValueError: If it is no such size; the message names ``image_size``.
    """
    if image_size is None:
        return None
    size = [image_size] * 2 if isinstance(image_size, int) else list(image_size)
    if len(size) != 2 or not all(isinstance(one, int) and one > 0 for one in size):
        raise ValueError(f'{name}.image_size must be a height and a width in pixels, got {image_size!r}')
    if scale != 1:
        raise ValueError(f'{name}.image_size sets the size of the image: leave {name}.input_scale at 1')
    cut = [one for one in size if one % patch]
    if cut:
        below = cut[0] - cut[0] % patch
        raise ValueError(
            f'{name}.image_size must be multiples of {patch} pixels, the size of a cell, got {cut[0]}: '
            f'take {below + patch}{f" or {below}" if below else ""}'
        )
    return size[0], size[1]


def _size(sample: Any, batch: Batch) -> tuple[int, ...]:
    return tuple(sample.metainfo.get('img_shape', batch.inputs.shape[-2:])[:2])


def translate(inputs: Tensor, source: ImageFormat, target: ImageFormat, image_sizes: Sequence[Sequence[int]]) -> Tensor:
    """Rewrite a batch made in one format as the batch the other format would have made of the same pixels.

    Padding stays where it is, and is refilled with the target's value. Where the formats agree, ``inputs`` itself is
    returned, bit for bit.

    Args:
        inputs: Normalised images, shape ``(N, C, H, W)``.
        source: The format of ``inputs``.
        target: The format to rewrite it in.
        image_sizes: Height and width of each image without its padding (padding is at the right and the bottom).

    Returns:
        The batch in the target's format, same shape.
    """
    images = inputs
    mean, std = source.mean, source.std
    if source.reversed_channels != target.reversed_channels:
        images, mean, std = images.flip(1), mean[::-1], std[::-1]
    if (mean, std) != (target.mean, target.std):
        width = max(map(len, (mean, std, target.mean, target.std)))
        channels = list(zip(*(_widened(values, width) for values in (mean, std, target.mean, target.std)), strict=True))
        scale = [own_std / new_std for _, own_std, _, new_std in channels]
        shift = [(own_mean - new_mean) / new_std for own_mean, _, new_mean, new_std in channels]
        images = images * _column(scale, images) + _column(shift, images)
    if images is inputs and source.pad_value == target.pad_value:
        return inputs
    return _refill_padding(images, image_sizes, target.pad_value)


def _widened(values: Sequence[float], width: int) -> Sequence[float]:
    return values if len(values) == width else [*values] * width


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    # Pinned, so that a GPU is not waited for.
    column = torch.tensor(values, dtype=like.dtype, pin_memory=like.is_cuda).view(1, -1, 1, 1)
    return column.to(like.device, non_blocking=True)


def _refill_padding(images: Tensor, image_sizes: Sequence[Sequence[int]], value: float) -> Tensor:
    height, width = images.shape[-2:]
    if all(tuple(size[:2]) == (height, width) for size in image_sizes):
        return images
    images = images.clone()
    for image, (h, w, *_) in zip(images, image_sizes, strict=True):
        image[:, h:] = value
        image[:, :, w:] = value
    return images


def rescale(images: Tensor, scale: float) -> Tensor:
    """Resize a batch by ``scale`` (bilinear, anti-aliased when it shrinks); 1 returns it untouched."""
    if scale == 1:
        return images
    size = scaled_size(images.shape[-2:], scale)
    return F.interpolate(images, size=size, mode='bilinear', align_corners=False, antialias=scale < 1)


def fit_canvas(images: Sequence[Tensor], canvas: Sequence[int], value: float) -> Tensor:
    """Stack images of differing sizes ``(C, h, w)`` on canvases of one size, padded (or cut) right and bottom."""
    height, width = canvas
    return torch.stack(
        [F.pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2]), value=value) for image in images]
    )


def pad_to_divisor(images: Tensor, divisor: int, value: float) -> Tensor:
    """Pad a batch at the right and the bottom to multiples of ``divisor``; one that has such a size is not copied."""
    height, width = images.shape[-2:]
    missing = (0, -width % divisor, 0, -height % divisor)
    return F.pad(images, missing, value=value) if any(missing) else images
