"""An ONNX file in the place of a student's layers, for the evaluation that the student's config asks for."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor
from torch.nn import functional

from kddense.errors import ConfigError
from kddense.exchange import ImageFormat
from kddense.registry import MODELS
from kddense.views import is_a

from .agreement import detections_in
from .detectors.base import clip
from .onnx import require_onnx
from .onnx_file import OnnxFile

SHAPE = ('any number', '3', 'any height', 'any width')


@MODELS.register_module()
class OnnxModel(BaseModel):
    """Predicts with an ONNX file; images are prepared, and predictions brought to their sizes, as the student's are.

    Class maps and depths go the student's own way (whole images or windows, resized to the annotation); boxes are cut at
    the borders of images, and scaled. It computes on the CPU and learns nothing.

    Args:
        file: Of ``kddense export --onnx``, in float or in 8 bits.
        model: The config of the plain student that it was exported from.
        data_preprocessor: The student's own, if the config keeps it beside the model.

    Attributes:
        file: The file.

    Raises:
        ConfigError: If the file cannot be read, or is not of such a student.
        ImportError: If the packages for ONNX are not installed.
    """

    def __init__(self, file: str, model: Mapping[str, Any], data_preprocessor: Mapping[str, Any] | None = None) -> None:
        require_onnx()
        own = OnnxFile(Path(file))
        beside = {} if data_preprocessor is None else {'data_preprocessor': data_preprocessor}
        student = MODELS.build(copy.deepcopy({**beside, **model}))
        super().__init__(data_preprocessor=student.data_preprocessor)
        _check(own, student)
        self.file = own
        self.student = student
        if hasattr(student, 'encode_decode'):
            student.encode_decode = self._maps

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor') -> Any:
        """Predict with ``mode='predict'``; there is nothing to train."""
        if mode != 'predict' or data_samples is None:
            raise ValueError(f"a kddense.OnnxModel only predicts, mode='predict', got {mode!r}")
        if hasattr(self.student, 'encode_decode'):
            return self.student.predict(inputs, data_samples)
        return self._detections(inputs, data_samples)

    def _maps(self, images: Tensor, metas: Sequence[Mapping[str, Any]]) -> Tensor:
        """Return logits or metres, ``(N, C, H, W)``; of a class map, logits of which it is the greatest."""
        found = self._run(images)
        if 'classes' not in found:
            (maps,) = found.values()
            return maps.to(images)
        classes = found['classes'].to(images.device)
        if self.student.out_channels == 1:
            return classes[:, None].to(images).logit(eps=1e-6)
        return functional.one_hot(classes, self.student.out_channels).movedim(-1, 1).to(images)

    def _detections(self, images: Tensor, samples: list[Any]) -> list[Any]:
        from mmdet.structures.bbox import scale_boxes
        from mmengine.structures import InstanceData

        sizes = torch.tensor([sample.img_shape[:2] for sample in samples], dtype=torch.float32)
        results = []
        found = detections_in(self._run(images, sizes if self.file.takes_sizes else None))
        for (boxes, scores, labels), size, sample in zip(found, sizes, samples, strict=True):
            inside = boxes if self.file.takes_sizes else clip(boxes[None], size[None])[0]
            scaled = scale_boxes(inside, [1 / factor for factor in sample.scale_factor])
            results.append(InstanceData(bboxes=scaled, scores=scores[:, 0], labels=labels))
        return self.student.add_pred_to_datasample(samples, results)

    def _run(self, images: Tensor, sizes: Tensor | None = None) -> dict[str, Tensor]:
        if self.file.takes(images.shape):
            return self.file(images.cpu(), sizes)
        taken = ' x '.join(str(own or other) for own, other in zip(self.file.shape, SHAPE, strict=True))
        raise ConfigError(
            f'{self.file.file} takes images of {taken}, and the config gives {" x ".join(map(str, images.shape))}: change '
            'test_dataloader (batch_size, or Resize and Pad in its pipeline), or export with --dynamic size'
        )


def _check(file: OnnxFile, student: Any) -> None:
    """Raise a ConfigError if a file is not of a student."""
    wanted = _evaluated(student)
    if file.outputs not in wanted:
        raise ConfigError(
            f': {file.file} gives {", ".join(file.outputs)}, and {" or ".join(map(", ".join, wanted))} of a '
            f"{type(student).__name__} can be tested: give the config of the file's own model, or export without --outputs"
        )
    own, theirs = file.pixels, ImageFormat.of(student.data_preprocessor)
    if (own.mean, own.std, own.reversed_channels) != (theirs.mean, theirs.std, theirs.reversed_channels):
        raise ConfigError(
            f': {file.file} takes images of mean {_numbers(own.mean)} and std {_numbers(own.std)}'
            f'{", channels reversed" if own.reversed_channels else ""}, and data_preprocessor makes others: give the config '
            "of the file's own model"
        )


def _evaluated(student: Any) -> tuple[tuple[str, ...], ...]:
    """Return the outputs of files of a student that its metric has a use for."""
    if is_a(student, 'DepthEstimator'):
        return (('depth',),)
    if hasattr(student, 'encode_decode'):
        return ('logits',), ('classes',)
    return (('boxes', 'scores', 'labels'),)


def _numbers(values: Sequence[float]) -> str:
    return ', '.join(f'{value:g}' for value in values)
