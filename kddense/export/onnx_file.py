"""Running an ONNX file on the CPU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kddense.errors import ConfigError
from kddense.exchange import ImageFormat


class OnnxFile:
    """An ONNX file of :mod:`kddense.export`, as a function of images.

    Args:
        file: The file.
        threads: How many onnxruntime may use; 0 for all.

    Attributes:
        file: The file.
        shape: Of the images that it takes: number, channels, height, width; ``None`` where any will do.
        outputs: Their names.
        takes_sizes: Whether it is told how large images are without their padding.

    Raises:
        ConfigError: If there is no such file, or it is none of an export that onnxruntime reads.
        ImportError: If onnxruntime is not installed.
    """

    def __init__(self, file: Path, threads: int = 0) -> None:
        import onnxruntime

        self.file = file
        if not file.is_file():
            raise ConfigError(f': there is no file {file}')
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # an error is raised all the same
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(str(file), options, providers=['CPUExecutionProvider'])
            inputs = {value.name: value.shape for value in self._session.get_inputs()}
            _, _, _, _ = shape = inputs['images']
        except Exception as error:  # onnxruntime has errors of its own
            raise ConfigError(f': {file} is no file of kddense export --onnx that onnxruntime reads') from error
        self.shape: tuple[int | None, ...] = tuple(one if isinstance(one, int) else None for one in shape)
        self.outputs = tuple(value.name for value in self._session.get_outputs())
        self.takes_sizes = 'sizes' in inputs

    @property
    def channels(self) -> int:
        """Of the images that it takes."""
        return self.shape[1] or 3

    @property
    def classes(self) -> list[str] | None:
        """The names of its classes, if it says them."""
        return self._fact('classes')

    @property
    def pixels(self) -> ImageFormat:
        """How images become its input; how they are padded it does not say.

        Raises:
            ConfigError: If the file says nothing of it.
        """
        mean, std, reverse = (self._fact(name) for name in ('mean', 'std', 'bgr_to_rgb'))
        if mean is None or std is None:
            raise ConfigError(f': {self.file} does not say how images are normalised, as a file of kddense export does')
        return ImageFormat(tuple(mean), tuple(std), bool(reverse))

    def takes(self, shape: Sequence[int]) -> bool:
        """Tell whether it takes images of a shape ``(N, C, H, W)``."""
        return all(own in (None, given) for own, given in zip(self.shape, shape, strict=True))

    def __call__(self, images: Tensor, sizes: Tensor | None = None) -> dict[str, Tensor]:
        """Return the outputs by name.

        Args:
            images: Normalised, ``(N, C, H, W)``.
            sizes: Heights and widths without padding, ``(N, 2)``, if it takes them.
        """
        given = {'images': images.numpy(), **({} if sizes is None else {'sizes': sizes.numpy()})}
        return dict(zip(self.outputs, map(torch.from_numpy, self._session.run(None, given)), strict=True))

    def __deepcopy__(self, _: dict[int, Any]) -> OnnxFile:
        """Return itself: it has no state, and onnxruntime's sessions cannot be copied."""
        return self

    def _fact(self, name: str) -> Any:
        return json.loads(self._session.get_modelmeta().custom_metadata_map.get(name, 'null'))
