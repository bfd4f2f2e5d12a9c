"""Running an ONNX file on the CPU."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor


class OnnxFile:
    """An ONNX file of :mod:`kddense.export`, as a function of images.

    Args:
        file: The file.
        threads: How many onnxruntime may use; 0 for all.

    Attributes:
        channels: Of the images that it takes.
        takes_sizes: Whether it is told how large images are without their padding.
    """

    def __init__(self, file: Path, threads: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # an error is raised all the same
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(file), options, providers=['CPUExecutionProvider'])
        inputs = {value.name: value.shape for value in self._session.get_inputs()}
        self._names = [value.name for value in self._session.get_outputs()]
        self.channels: int = inputs['images'][1]
        self.takes_sizes = 'sizes' in inputs

    def __call__(self, images: Tensor, sizes: Tensor | None = None) -> dict[str, Tensor]:
        """Return the outputs by name.

        Args:
            images: Normalised, ``(N, C, H, W)``.
            sizes: Heights and widths without padding, ``(N, 2)``, if it takes them.
        """
        given = {'images': images.numpy(), **({} if sizes is None else {'sizes': sizes.numpy()})}
        return dict(zip(self._names, map(torch.from_numpy, self._session.run(None, given)), strict=True))
