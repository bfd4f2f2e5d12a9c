"""How large the images are that a config's student is made for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from kddense.configs import innermost_dataset


def example_size(settings: Mapping[str, Any], shape: Sequence[int] | None = None) -> tuple[int, int]:
    """Return the height and width of images as the network gets them, padded.

    Args:
        settings: The config of the plain student.
        shape: What was asked for, if anything.

    Raises:
        ValueError: If that is no height and width, or the config does not say.
    """
    if shape is not None:
        if len(shape) != 2 or min(shape) < 1:
            raise ValueError(f'the shape must be a height and a width, got {tuple(shape)}')
        return shape[0], shape[1]
    preprocessor = settings['model'].get('data_preprocessor') or {}
    size = preprocessor.get('size') or settings.get('crop_size') or _size_in_pipelines(settings)
    if size is None:
        raise ValueError('the config does not say how large images are: pass --shape HEIGHT WIDTH')
    divisor = preprocessor.get('pad_size_divisor') or preprocessor.get('size_divisor') or 1
    height, width = (-(-length // divisor) * divisor for length in size)
    return height, width


def _size_in_pipelines(settings: Mapping[str, Any]) -> Sequence[int] | None:
    sizes = []
    if 'decode_head' in settings['model']:  # mmseg crops to (height, width); its Resize may be a bound no image reaches
        sizes = [step.get('crop_size') for step in _pipeline(settings.get('train_dataloader'))]
    scales = [step.get('scale') for step in _pipeline(settings.get('test_dataloader'))]
    sizes += [scale[::-1] for scale in scales if _is_pair(scale)]
    return next(filter(_is_pair, sizes), None)


def _is_pair(value: Any) -> TypeGuard[Sequence[int]]:
    return isinstance(value, (list, tuple)) and len(value) == 2


def _pipeline(loader: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return innermost_dataset((loader or {}).get('dataset') or {}).get('pipeline', [])
