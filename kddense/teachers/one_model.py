"""A teacher that is one model: loaded, frozen, placed and run."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from kddense.exchange import Answer, Batch, ImageFormat, Question, ViewError, split_gradient
from kddense.random_state import fixed_random_state
from kddense.taps import Recording, Taps, map_tensors, nearest, tensors_of
from kddense.views import CompiledParts, build_view
from kddense.views.alignment import in_float32

from .base import Teacher
from .folding import NORMS, fold, norms_of
from .images import STUDENT_IMAGE, TeacherImages
from .slow_precision import tell_if_slow
from .weights import hash_of, load_weights

PRECISIONS = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


class ModelTeacher(Teacher):
    """What teachers of one model share; :meth:`build_model` says where it comes from.

    Args:
        checkpoint: Path or URL of its weights; ``None`` leaves them as the model is built.
        precision: ``'fp32'``, ``'bf16'`` or ``'fp16'``. Weights and maps are kept in it, statistics of normalisation
            layers stay in float32; what it answers is float32 again. In low precision batch norms are folded into
            their convolutions where that changes nothing: a tap on such a convolution hears both.
        channels_last: Run it in the channels-last memory format: faster on most CPUs and GPUs in low precision.
        input_scale: Size of the image that it sees, relative to the student's. The image comes from the pipeline if
            :class:`kddense.ShrinkForStudent` kept it, else the student's is resized.
        image: The key in each data sample's ``metainfo`` of the image that this teacher is given instead of the student's:
            height x width (x channels), as many channels as it takes. One that lacks it is an error. ``'student'`` is the
            student's, also where the pipeline kept a larger one for another teacher.
        fold_norms: Fold batch norms so in float32 too: faster, most on a CPU. Changes last digits.
        class_map: For every class of the student the teacher's that it is, by name or index: selects and orders the classes
            of a teacher that was trained on others. Softmax is then taken over the selected ones. ``None`` for a class
            that a detector does not know: RoI and dense heads are then compared over the classes that it knows alone.
        datasets: Names of the data sets about whose images it is asked; see :class:`kddense.NamedDataset`. All by default.
        compile: Run its backbone and neck, as far as no tap listens into them, through ``torch.compile``; a dict of its
            options, such as ``dict(mode='max-autotune')``. Changes last digits.
        trust_checkpoint: Load a checkpoint that holds pickled code. Only for files whose source you trust.
        name: What messages call it: the config key it came from.

    Raises:
        ValueError: If an argument or the checkpoint does not fit; the message names the config key.
        FileNotFoundError: If there is no such checkpoint.
    """

    view_options: Mapping[str, Any] = {}
    is_trained_as_built = False

    def __init__(
        self,
        checkpoint: str | None,
        precision: str = 'fp32',
        channels_last: bool = False,
        input_scale: float = 1.0,
        image: str | None = None,
        fold_norms: bool = False,
        class_map: Sequence[str | int | None] | None = None,
        datasets: Sequence[str] | None = None,
        compile: bool | Mapping[str, Any] = False,
        trust_checkpoint: bool = False,
        name: str = 'teacher',
    ) -> None:
        super().__init__(name, datasets)
        if precision not in PRECISIONS:
            raise ValueError(f"{name}.precision must be one of {', '.join(PRECISIONS)}, got '{precision}'")
        if not isinstance(input_scale, (int, float)) or not 0 < input_scale < float('inf'):
            raise ValueError(f'{name}.input_scale must be a positive number, got {input_scale}')
        self.input_scale = float(input_scale)
        self.dtype = PRECISIONS[precision]
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.trust_checkpoint = trust_checkpoint
        self._folds_norms = fold_norms or self.dtype != torch.float32
        self._compiled = CompiledParts.of(compile)
        self._compile_options = compile
        model = self._loaded(checkpoint)
        self.class_map = None if class_map is None else class_indices(class_map, self.classes, name)
        self.image_format = self.format_of(model)
        self.images = self.images_of(model, image)
        self.view = build_view(
            model,
            owner=name,
            input_scale=self.input_scale,
            class_map=self.class_map,
            image_format=self.image_format,
            frozen=True,
            **self.view_options,
        )
        self._install(model)

    def build_model(self) -> nn.Module:
        """Build the model, without trained weights unless its config names some."""
        raise NotImplementedError

    def format_of(self, model: Any) -> ImageFormat:
        """Return how images become the model's inputs."""
        return ImageFormat.of(getattr(model, 'data_preprocessor', None))

    def images_of(self, model: Any, key: str | None) -> TeacherImages:
        """Return what makes the model's inputs of a student's batch, ``key`` naming an image that the pipeline kept."""
        return TeacherImages(self.image_format, self.input_scale, key, self.name)

    def _loaded(self, checkpoint: str | None) -> nn.Module:
        model = self.build_model()
        if checkpoint is not None:
            self.classes = self.take_weights(model, checkpoint) or self.classes
        elif not self.is_trained_as_built:
            print_log(f'{self.name}.checkpoint is None: the teacher is untrained', logger='current', level=30)
        self.checkpoint = checkpoint
        return model

    def take_weights(self, model: nn.Module, checkpoint: str) -> tuple[str, ...] | None:
        """Load a checkpoint into the model; return the names of its classes, if it says."""
        return load_weights(model, checkpoint, self.trust_checkpoint, self.name)

    def _install(self, model: Any) -> None:
        """Freeze a model, fold and cast it, and look at it from now on."""
        model.requires_grad_(False).eval()
        if self._folds_norms:
            self.view.norms = norms_of(model)
            fold(model, self.image_format.channels or 3)
        if self.dtype != torch.float32:
            model.to(self.dtype)
            for module in model.modules():
                if isinstance(module, NORMS):
                    module.float()
        model.to(memory_format=self.memory_format)
        self.model = model
        self.view.look_at(model)

    def identity(self) -> dict[str, str]:
        options = (self.input_scale, self.class_map, self.dtype, self._format_now(), self.images.key, self.image_format)
        about = f'{type(self).__name__} {options} {self._compile_options} {self.model_text()}'
        return dict(weights=hash_of(self.model.state_dict()), teacher=hash_of({about: torch.zeros(0)}))

    def model_text(self) -> str:
        """Return what the model computes, besides its weights, as text."""
        return repr(self.model)

    def load(self, checkpoint: str) -> None:
        place, memory_format = next(self.model.parameters()).device, self._format_now()
        self._install(self._loaded(checkpoint).to(place))
        self.model.to(memory_format=memory_format)

    def _format_now(self) -> torch.memory_format:
        """Return the memory format that it computes in: :class:`kddense.ChannelsLastHook` moves teachers too."""
        return torch.channels_last if _is_channels_last(self.model) else self.memory_format

    def check_images(self, student: ImageFormat) -> None:
        own, other = self.image_format.channels, student.channels
        if self.images.key in (None, STUDENT_IMAGE) and own and other and own != other:
            raise ValueError(
                f"{self.name} takes images of {own} channels, the student's have {other}: name one of {own} channels with "
                f'{self.name}.image, or take a teacher of {other} channels'
            )

    @torch.no_grad()
    def answer(self, question: Question, batch: Batch) -> Answer:
        if self._compiled is not None:
            self._compiled.listen(
                self.model, {*question.taps, *(tap for tap, _ in map(split_gradient, question.gradients))}
            )
        images, covered = self.images.of(batch)
        tell_if_slow(self.dtype, images.device, self.name)
        images = images.to(self.view.image_dtype(), memory_format=self.memory_format)
        asked = replace(question.rescaled(self.input_scale), data_samples=self.images.sizes(batch, images))
        with self._alone(images.device):
            answer = self.view.answer(asked, images, covered)
            gradients = self._gradients(question.gradients, images, batch)
        return replace(answer, gradients=gradients, teacher=self)

    def through(self, path: str, *values: Tensor) -> Any:
        parts = self._parts_at(path)
        # What has no weights, a RoI extractor say, computes in float32: in bfloat16 its boxes would lie pixels away.
        weights = [one for part in parts for one in part.parameters()]
        dtype = self.view.image_dtype() if weights else torch.float32
        result: Any = tuple(map_tensors(lambda value: self._cast(value, dtype), value) for value in values)
        with self._alone(next(tensors_of(values)).device):
            for part in parts:
                result = (part(*result),)
        return map_tensors(in_float32, result[0])

    def _cast(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        if not value.is_floating_point():
            return value
        return value.to(dtype, memory_format=self.memory_format if value.dim() == 4 else torch.preserve_format)

    def _parts_at(self, path: str) -> list[Any]:
        match = re.fullmatch(r'(.*?)(?:\[(-?\d*):(-?\d*)\])?', path)
        assert match is not None
        name, *ends = match.groups()
        modules: Mapping[str, nn.Module] = dict(self.model.named_modules())
        if name not in modules:
            raise ValueError(f"{self.name} ({type(self.model).__name__}) has no part '{name}'{nearest(name, modules)}")
        if ends == [None, None]:
            return [modules[name]]
        first, last = (int(end) if end else None for end in ends)
        return list(modules[name])[first:last]  # type: ignore[call-overload]

    @contextmanager
    def _alone(self, device: torch.device) -> Iterator[None]:
        """Context manager: no autocast but the teacher's own types, and random numbers that are the same each time."""
        with torch.autocast(device.type, enabled=False), fixed_random_state():
            yield

    def _gradients(self, asked: frozenset[str], images: Tensor, batch: Batch) -> dict[str, list[Tensor]]:
        """Return the gradients of the teacher's own loss at taps; its heads compute in float32 where they are in bf16."""
        if not asked:
            return {}
        if images.shape[-2:] != batch.inputs.shape[-2:]:
            raise ViewError(
                f'{self.name} cannot give the gradients of its own loss: it sees images of {tuple(images.shape[-2:])} where '
                f"the student's labels are of {tuple(batch.inputs.shape[-2:])}; give both the same size divisor and scale"
            )
        samples = copy.deepcopy(batch.data_samples)
        low = self.view.image_dtype() != torch.float32
        autocast = torch.autocast(images.device.type, self.view.image_dtype() if low else None, enabled=low)
        with torch.enable_grad(), self.view.as_in_training(), self.view.without_labels(samples):
            with autocast, Taps(self.model, {tap for tap, _ in map(split_gradient, asked)}, self.name) as recording:
                losses = self.model.loss(images.detach().requires_grad_(), samples)
            return {text: self._gradient(*split_gradient(text), recording, losses) for text in asked}

    def _gradient(self, tap: str, pattern: str, recording: Recording, losses: Mapping[str, Any]) -> list[Tensor]:
        """Return the gradients of the losses whose names match, one for each tensor at a tap."""
        chosen = [value for key, value in _flat(losses) if 'loss' in key and re.fullmatch(pattern, key)]
        if not chosen:
            raise ViewError(f"{self.name} has no loss that matches '{pattern}', only {', '.join(losses)}")
        total = sum(value.float().sum() for value in chosen)
        tensors = list(tensors_of(recording[tap]))
        found = torch.autograd.grad(total, tensors, retain_graph=True, allow_unused=True)  # type: ignore[arg-type]
        pairs = zip(found, tensors, strict=True)
        return [in_float32(torch.zeros_like(value) if gradient is None else gradient) for gradient, value in pairs]


def _is_channels_last(model: nn.Module) -> bool:
    """Tell whether a model's weights are in the channels-last format; last bits of what it computes depend on it."""
    return any(
        one.dim() == 4 and not one.is_contiguous() and one.is_contiguous(memory_format=torch.channels_last)
        for one in model.parameters()
    )


def _flat(losses: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for key, value in losses.items():
        for tensor in tensors_of(value):
            yield key, tensor


def class_indices(class_map: Sequence[str | int | None], classes: Sequence[str] | None, name: str) -> list[int | None]:
    """Return a ``class_map`` by indices.

    Args:
        class_map: For every class of the student the teacher's, by name or index, ``None`` for one that it does not know.
        classes: Names of the teacher's classes, if they are known.
        name: What messages call the teacher.

    Raises:
        ValueError: If it names no class, one twice, or one that is not there.
    """
    by_name = {own: index for index, own in enumerate(classes or ())}
    unknown = [one for one in class_map if isinstance(one, str) and one not in by_name]
    if unknown:
        known = f'they are {", ".join(by_name)}' if by_name else 'its names are not known, use indices'
        raise ValueError(f'{name}.class_map: the teacher has no class {", ".join(map(repr, unknown))}; {known}')
    indices = [by_name[one] if isinstance(one, str) else one for one in class_map]
    mapped = [one for one in indices if one is not None]
    if not mapped or len(set(mapped)) < len(mapped) or min(mapped) < 0:
        raise ValueError(
            f'{name}.class_map must name each class once, by name or by index from 0, got {list(class_map)}'
        )
    return indices
