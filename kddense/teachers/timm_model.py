"""A teacher that timm has: foundation encoders and other backbones, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from kddense.compat import load_checkpoint
from kddense.errors import ConfigError, within
from kddense.exchange import ImageFormat
from kddense.models.timm_features import TimmFeatures
from kddense.random_state import forked_random_state
from kddense.registry import TEACHERS

from .images import TeacherImages, only_size
from .one_model import ModelTeacher
from .weights import CONTAINERS, check_finite


@TEACHERS.register_module()
class TimmTeacher(ModelTeacher):
    """Any model of timm as a teacher of features: DINOv2 and v3, RADIO, SigLIP, ConvNeXt, Swin and so on.

    ``teacher_tap='backbone'`` is the list of its maps ``(N, C, h, w)``: tokens are maps already, without class and register
    tokens. It sees the student's images with mean and standard deviation of its own training, padded to whole patches at the
    right and the bottom, and its position embeddings are interpolated to them. Needs ``pip install 'kddense[foundation]'``.

    Args:
        model: Name of the model in timm, with or without the tag of its weights:
            ``'vit_small_patch14_dinov2.lvd142m'``; or as timm's ``'hf-hub:account/model'`` and ``'local-dir:folder'``.
        checkpoint: Path or URL of its weights, ``.safetensors`` or PyTorch's, as timm or their authors published them.
        pretrained: Whether timm downloads them, once, to its own cache.
        levels: Which maps to give: blocks of a transformer or stages, from 0 or from the end; by default the last.
        norm: Whether the model's last norm is applied to the maps of a transformer's blocks, as DINOv2's authors do.
        image_size: For models that take one image size alone: its height and width, or one number for both; the student's
            image is stretched to it. Whole patches. ``None`` for any size.
        options: More arguments of ``timm.create_model``.
        name: What messages call it: the config key it came from.
        **kwargs: See :class:`ModelTeacher`. With patches of 14 pixels, ``input_scale=0.875`` gives one cell for 16 pixels of
            the student.

    Raises:
        ModuleNotFoundError: If timm is not installed.
        ValueError: If there is no such model, or an argument or the checkpoint does not fit.

    Example:
        >>> teacher = dict(
        ...     type='kddense.TimmTeacher', model='vit_small_patch14_dinov2.lvd142m', checkpoint='dinov2_vits14.pth')
    """

    def __init__(
        self,
        model: str,
        checkpoint: str | None = None,
        pretrained: bool = False,
        levels: Sequence[int] = (-1,),
        norm: bool = True,
        image_size: int | Sequence[int] | None = None,
        options: Mapping[str, Any] | None = None,
        name: str = 'teacher',
        **kwargs: Any,
    ) -> None:
        if pretrained and checkpoint is not None:
            raise ValueError(
                f'{name}.pretrained: timm downloads weights and {name}.checkpoint names others; choose one'
            )
        size = only_size(image_size, 1, kwargs.get('input_scale', 1.0), name)
        self._key = name
        self._arguments = dict(
            name=model, levels=levels, norm=norm, image_size=size, pretrained=pretrained, options=options
        )
        self._size = size
        self.is_trained_as_built = pretrained
        super().__init__(checkpoint, name=name, **kwargs)

    def build_model(self) -> nn.Module:
        with within(f'{self._key}.model'), forked_random_state():
            backbone = TimmFeatures(**self._arguments, owner=f'{self._key}.model')  # type: ignore[arg-type]
        only_size(self._size, backbone.size_divisor, 1, self._key)
        self.view_options = dict(patch_size=backbone.patch_size, stretched=self._size is not None)
        return _Encoder(backbone)

    def take_weights(self, model: Any, checkpoint: str) -> None:
        what = f'{self._key}.checkpoint'
        with within(what):
            contents = load_checkpoint(checkpoint, self.trust_checkpoint)
        weights = next((contents[key] for key in CONTAINERS if isinstance(contents.get(key), Mapping)), contents)
        try:
            left_out = model.backbone.take(weights)
        except ValueError as error:
            raise ConfigError(f" '{checkpoint}' does not fit {self._arguments['name']}: {error}", what) from error
        if left_out:
            parts = sorted({key.partition('.')[0] for key in left_out})
            print_log(
                f'{what}: left out {", ".join(parts)} ({len(left_out)} keys), which give no maps', logger='current'
            )
        check_finite(model, f"{what} '{checkpoint}'")

    def format_of(self, model: Any) -> ImageFormat:
        backbone = model.backbone
        divisor = 1 if self._size is not None else backbone.size_divisor
        return ImageFormat(backbone.mean, backbone.std, reversed_channels=True, size_divisor=divisor)

    def images_of(self, model: Any, key: str | None) -> TeacherImages:
        return TeacherImages(self.image_format, self.input_scale, key, self.name, self._size)

    def model_text(self) -> str:
        return f'{self._arguments} {self.model!r}'


class _Encoder(nn.Module):
    """A backbone alone, in the place where taps look for one."""

    def __init__(self, backbone: TimmFeatures) -> None:
        super().__init__()
        self.backbone = backbone

    def extract_feat(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.backbone(images)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.backbone(images)
