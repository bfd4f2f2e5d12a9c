"""Images of a folder as the input of an ONNX file: resized, normalised, padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import mmcv
import torch
from torch import Tensor
from torch.nn import functional

from kddense.datasets.image_files import SUFFIXES, read_image
from kddense.exchange import ImageFormat

MOST = 100


def image_files(folder: Path, most: int = MOST) -> list[Path]:
    """Return the images of a folder, evenly spaced in the order of their names if they are too many.

    Args:
        folder: Folders in it are searched, too.
        most: How many to return at most.

    Raises:
        FileNotFoundError: If there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'--images: there is no folder {folder}')
    files = sorted(file for file in folder.rglob('*') if file.suffix.lower() in SUFFIXES)
    if not files:
        raise FileNotFoundError(f'--images: {folder} holds no image ({", ".join(SUFFIXES)})')
    step = max(len(files) / most, 1)
    return [files[int(index * step)] for index in range(min(most, len(files)))]


def read_images(files: Sequence[Path], size: tuple[int, int], pixels: ImageFormat) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images as a student gets them, ``(1, 3, H, W)``, with height and width without their padding, ``(1, 2)``.

    Args:
        files: Images, read with three channels.
        size: Height and width that they are resized to, with their aspect ratio, and padded.
        pixels: How they are normalised.

    Raises:
        ValueError: If one cannot be read.
    """
    height, width = size
    for file in files:
        image = read_image(file)
        if image is None:
            raise ValueError(f'--images: {file} cannot be read as an image: mend it, or take it out of the folder')
        scale = min(height / image.shape[0], width / image.shape[1])
        image = mmcv.imresize(image, (round(image.shape[1] * scale), round(image.shape[0] * scale)))
        values = torch.from_numpy(image).permute(2, 0, 1).float()
        values = values.flip(0) if pixels.reversed_channels else values
        mean, std = (torch.tensor(numbers).view(-1, 1, 1) for numbers in (pixels.mean, pixels.std))
        padding = (0, width - image.shape[1], 0, height - image.shape[0])
        padded = functional.pad((values - mean) / std, padding, value=pixels.pad_value)
        yield padded[None], torch.tensor([image.shape[:2]], dtype=torch.float32)
