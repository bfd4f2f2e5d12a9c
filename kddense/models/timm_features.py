"""Any image model of timm as a backbone: maps of the stages or blocks that are asked for."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from kddense.errors import ConfigError, sentence_of
from kddense.taps import nearest

# What makes a model take images of any size, by family; the first that its constructor knows is used.
ANY_SIZE: tuple[dict[str, Any], ...] = (dict(dynamic_img_size=True), dict(strict_img_size=False), {})
REFUSALS = (AssertionError, RuntimeError, ValueError)  # what models raise at images of a size that they do not take


class TimmFeatures(nn.Module):
    """Maps of a model of timm: ``(N, C, h, w)`` for each stage or block, without class and register tokens.

    Position embeddings are interpolated to each image where the family can (ViT, DINOv2 and v3, EVA, RADIO, Swin); a family
    that takes one image size alone needs ``image_size``.

    Args:
        name: Of the model, with or without the tag of its weights: ``'vit_small_patch14_dinov2.lvd142m'``.
        levels: Stages, or blocks of a transformer, from 0 or from the end.
        norm: Whether the model's last norm is applied to the maps of a transformer, as DINOv2's authors do.
        image_size: Height and width of the only size that it takes; ``None`` for any.
        pretrained: Whether timm downloads its weights.
        options: More arguments of ``timm.create_model``.
        owner: What messages call it: a config key.

    Raises:
        ModuleNotFoundError: If timm is not installed.
        ValueError: If there is no such model, level or option, or it gives no maps.

    Attributes:
        model: timm's model.
        patch_size: Pixels of a patch, ``None`` for models whose stages differ in size.
        size_divisor: What heights and widths must be multiples of.
        mean: Of the images that it was trained on, 0..255, RGB.
        std: Their deviation.
        img_size: The only size that it takes, if there is one.
    """

    def __init__(
        self,
        name: str,
        levels: Sequence[int] = (-1,),
        norm: bool = True,
        image_size: Sequence[int] | None = None,
        pretrained: bool = False,
        options: Mapping[str, Any] | None = None,
        owner: str = 'model',
    ) -> None:
        super().__init__()
        _check_name(name)
        model: Any = _created(name, image_size, pretrained, dict(options or {}))
        if not hasattr(model, 'forward_intermediates'):
            raise ValueError(
                f"model '{name}' of timm gives no maps of its stages: take another, or kddense.ModuleTeacher"
            )
        reductions = [int(level['reduction']) for level in model.feature_info]
        if not levels or not all(-len(reductions) <= level < len(reductions) for level in levels):
            raise ValueError(f"levels must name some of the {len(reductions)} of '{name}', got {list(levels)}")
        self.model = model
        self.name = name
        self.owner = owner
        self.levels = [level % len(reductions) for level in levels]
        self.norm = norm
        # In the order that was asked for: timm returns them from the first to the last.
        self._order = [sorted(set(self.levels)).index(level) for level in self.levels]
        self.patch_size = reductions[0] if len(set(reductions)) == 1 else None
        self.size_divisor = max(reductions)
        self.img_size = None if image_size is None else tuple(image_size)
        trained = model.pretrained_cfg
        self.mean = tuple(255 * one for one in trained['mean'])
        self.std = tuple(255 * one for one in trained['std'])

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of normalised images ``(N, 3, H, W)``; always a tuple.

        Raises:
            ConfigError: If the model does not take images of this size.
        """
        try:
            return self._maps(images)
        except torch.cuda.OutOfMemoryError:
            raise
        except REFUSALS as error:
            raise ConfigError(self._refusal(images, sentence_of(error).rstrip('.')), owner=self.owner) from error

    def _maps(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = self.model.forward_intermediates(
            images, indices=sorted(set(self.levels)), norm=self.norm, stop_early=True, intermediates_only=True
        )
        return tuple(maps[place] for place in self._order)

    def _refusal(self, images: Tensor, fault: str) -> str:
        own = tuple(self.model.pretrained_cfg['input_size'][1:])
        try:
            self._maps(images.new_zeros(1, 3, *own))
        except REFUSALS:
            return f": '{self.name}' gives no maps ({fault}): set norm=False, or take another model"
        refused, taken = ('x'.join(map(str, size)) for size in (images.shape[2:], own))
        return (
            f": '{self.name}' takes images of {taken}, not of {refused} ({fault}): set image_size={own[0]}, and images are "
            'stretched to it'
        )

    def take(self, weights: Mapping[str, Any]) -> list[str]:
        """Load published weights, by the names of timm or, where timm converts them, of their authors.

        Args:
            weights: By name.

        Returns:
            The names of what was left out: classifiers and other heads that this model does not have.

        Raises:
            ValueError: If a weight of the model is missing or of another shape, or the file has more of one of its parts.
        """
        from timm.models import clean_state_dict

        weights = _converted(self.model, clean_state_dict(dict(weights)))
        own = self.model.state_dict()
        counts = {key for key in own if key.endswith('num_batches_tracked')}
        missing = sorted(own.keys() - weights.keys() - counts)
        reshaped = [key for key in own if key in weights and own[key].shape != weights[key].shape]
        heads = _heads(self.model)
        extra = sorted(weights.keys() - own.keys())
        foreign = [key for key in extra if _part(key) in {_part(one) for one in own} - heads]
        for kind, keys in (('missing', missing), ('of another shape', reshaped), ('too many', foreign)):
            if keys:
                some = ', '.join(keys[:3]) + (', …' if len(keys) > 3 else '')
                raise ValueError(f'{len(keys)} keys of {type(self.model).__name__} are {kind} ({some})')
        self.model.load_state_dict({key: weights[key] for key in own if key in weights})
        return extra


def timm_library() -> ModuleType:
    """Return timm.

    Raises:
        ModuleNotFoundError: If it is not installed.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "models of timm need the package timm, which is not installed: pip install 'kddense[foundation]'"
        ) from error
    return timm


def _check_name(name: str) -> None:
    known = timm_library().list_models()
    base, _, tag = name.partition('.')
    if base not in known:
        raise ValueError(f"timm has no model '{base}'{nearest(base, known)}")
    tags = [one.partition('.')[2] for one in timm_library().list_pretrained(f'{base}.*')]
    if tag and tag not in tags:
        published = f': they are {", ".join(tags)}' if tags else ''
        raise ValueError(f"timm knows no weights '{tag}' of '{base}'{published}")


def _created(name: str, image_size: Sequence[int] | None, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    fixed: list[dict[str, Any]] = [] if image_size is None else [dict(img_size=tuple(image_size))]
    faults = []
    for sizes in (*fixed, *ANY_SIZE):
        try:
            return timm_library().create_model(name, pretrained=pretrained, **{'num_classes': 0, **sizes, **options})
        except TypeError as error:  # its constructor has no such option
            faults.append(error)
    raise ValueError(f"model '{name}' of timm cannot be built: {sentence_of(faults[-1])}") from faults[-1]


def _converted(model: nn.Module, weights: dict[str, Any]) -> dict[str, Any]:
    """Return weights under timm's names: every family brings the function that reads what its authors publish."""
    convert = getattr(sys.modules[type(model).__module__], 'checkpoint_filter_fn', None)
    if convert is None:
        return weights
    try:
        return dict(convert(weights, model))
    except (KeyError, AttributeError, RuntimeError, AssertionError, ValueError) as error:
        raise ValueError(f'timm cannot read it as weights of {type(model).__name__}: {sentence_of(error)}') from error


def _heads(model: Any) -> set[str]:
    """Return the parts that a model without classes has as empty places, or not at all."""
    named = model.pretrained_cfg.get('classifier') or ()
    return {_part(one) for one in ([named] if isinstance(named, str) else named)} | {'head', 'fc_norm', 'attn_pool'}


def _part(key: str) -> str:
    return key.partition('.')[0]
