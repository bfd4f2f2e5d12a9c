"""A teacher that is no model of OpenMMLab: any module that takes images."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import nn

from kddense.errors import ConfigError, sentence_of
from kddense.exchange import ImageFormat
from kddense.random_state import forked_random_state
from kddense.registry import MODELS, TEACHERS

from .images import TeacherImages, only_size
from .one_model import ModelTeacher
from .weights import load_weights

HEADS = ('fc', 'classifier', 'head', 'heads')  # of torchvision's classifiers, and of most others
IMAGENET = dict(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))


@TEACHERS.register_module()
class ModuleTeacher(ModelTeacher):
    """Any ``nn.Module`` of any library as a teacher of features: torchvision's, timm's, a user's own.

    It is given normalised images ``(N, C, H, W)``; ``teacher_tap=''`` of an objective is what it returns. A backbone of
    OpenMMLab, or :class:`kddense.EfficientNetLite`, is such a module too.

    Args:
        module: ``dict(type=…, **arguments)``; the type is a registered name, or the dotted name of a callable that returns a
            module, such as ``'torchvision.models.resnet50'``.
        checkpoint: Path or URL of its weights; ``None`` leaves those that the callable gives, or that ``init_weights`` of a
            module of OpenMMLab does.
        mean: Subtracted from each channel of images in 0..255; ImageNet's by default.
        std: Divided by.
        rgb: Whether it takes RGB; ``False`` for BGR, or for images that are no colours.
        patch_size: Height and width of a patch in pixels, for transformers: images are padded to whole patches, and tokens
            ``(N, L, C)`` are answered as maps ``(N, C, h, w)``, without the class and register tokens before them.
        size_divisor: What images are padded to multiples of; the patch size by default.
        image_size: For modules that take one image size alone: its height and width, or one number for both, in whole
            patches; the student's image is stretched to it. ``None`` for any size.
        heads: Children that give no maps. Where the checkpoint has others or none they are left out, which the log says:
            what they are given then comes out of them, and nobody may listen to them.
        name: What messages call it: the config key it came from.
        **kwargs: See :class:`ModelTeacher`.

    Raises:
        ValueError: If the module cannot be built, or an argument or the checkpoint does not fit.

    Example:
        >>> teacher = dict(
        ...     type='kddense.ModuleTeacher',
        ...     module=dict(type='torchvision.models.vit_b_16', weights=None),
        ...     checkpoint='vit_b_16.pth',
        ...     patch_size=16,
        ...     image_size=224)  # and teacher_tap='encoder' of an objective
    """

    def __init__(
        self,
        module: Mapping[str, Any],
        checkpoint: str | None = None,
        mean: Sequence[float] = IMAGENET['mean'],
        std: Sequence[float] = IMAGENET['std'],
        rgb: bool = True,
        patch_size: int | None = None,
        size_divisor: int | None = None,
        image_size: int | Sequence[int] | None = None,
        heads: Sequence[str] = HEADS,
        name: str = 'teacher',
        **kwargs: Any,
    ) -> None:
        if not isinstance(module, Mapping) or 'type' not in module:
            raise ValueError(f'{name}.module must be a dict with a `type`, got {module!r}')
        if len(mean) != len(std) or not all(one > 0 for one in std):
            raise ValueError(f'{name}.mean and {name}.std must be as many, and std above 0, got {mean} and {std}')
        for key, value in (('patch_size', patch_size), ('size_divisor', size_divisor)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f'{name}.{key} must be a whole number of pixels, at least 1, got {value!r}')
        self._module = dict(module)
        self._is_pretrained = checkpoint is None
        self._key = name
        self._heads = tuple(heads)
        self._size = only_size(image_size, patch_size or 1, kwargs.get('input_scale', 1.0), name)
        self.view_options = dict(patch_size=patch_size, stretched=self._size is not None)
        self._format = ImageFormat(
            mean=tuple(float(one) for one in mean),
            std=tuple(float(one) for one in std),
            reversed_channels=rgb and len(mean) == 3,
            size_divisor=1 if self._size else size_divisor or patch_size or 1,
        )
        super().__init__(checkpoint, name=name, **kwargs)

    def build_model(self) -> nn.Module:
        arguments = dict(self._module)
        make = _callable_of(arguments.pop('type'), f'{self._key}.module.type')
        try:
            with forked_random_state():
                built = make(**arguments)
                if isinstance(built, BaseModule) and self._is_pretrained:
                    built.init_weights()
        except Exception as error:  # a callable of any library
            raise ConfigError(f' cannot be built: {sentence_of(error)}', f'{self._key}.module') from error
        if not isinstance(built, nn.Module):
            raise ValueError(f'{self._key}.module must be an nn.Module, {self._module["type"]} gave {built!r}')
        if self._size and not hasattr(built, 'img_size'):
            built.img_size = self._size  # type: ignore[assignment]  # as timm's models say it: blank images are of it
        return built

    def take_weights(self, model: nn.Module, checkpoint: str) -> tuple[str, ...] | None:
        return load_weights(model, checkpoint, self.trust_checkpoint, self.name, 'module', self._heads)

    def format_of(self, model: Any) -> ImageFormat:
        return self._format

    def images_of(self, model: Any, key: str | None) -> TeacherImages:
        return TeacherImages(self.image_format, self.input_scale, key, self.name, self._size)

    def model_text(self) -> str:
        arguments = json.dumps(self._module, sort_keys=True, default=_name)
        return f'{super().model_text()} {arguments} {self.view_options} {self._size}'


def _name(value: Any) -> str:
    """Return a text for a value, the same in every process."""
    return f'{value.__module__}.{value.__qualname__}' if hasattr(value, '__qualname__') else repr(value)


def _callable_of(kind: str, key: str) -> Callable[..., Any]:
    found: Any = MODELS.get(kind) if isinstance(kind, str) else kind
    if not callable(found):
        raise ValueError(
            f"{key} '{kind}' is neither registered nor importable: write 'package.module.callable', and install its package"
        )
    return found
