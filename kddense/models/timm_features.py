"""Any image model of timm as a backbone: maps of the stages or blocks that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from kddense.errors import ConfigError, sentence_of
from kddense.taps import nearest

# What makes a model take images of any size, by family; the first that its constructor knows is used.
ANY_SIZE: tuple[dict[str, Any], ...] = (dict(dynamic_img_size=True), dict(strict_img_size=False), {})
SOURCES = ('hf-hub', 'local-dir')  # of models that timm does not know by name
REFUSALS = (AssertionError, RuntimeError, ValueError)  # what models raise at images of a size that they do not take


class TimmFeatures(nn.Module):
    """Maps of a model of timm: ``(N, C, h, w)`` for each stage or block, without class and register tokens.

    Position embeddings are interpolated to each image where the family can (ViT, DINOv2 and v3, EVA, RADIO, Swin); a family
    that takes one image size alone needs ``image_size``.

    Args:
        name: Of the model, with or without the tag of its weights: ``'vit_small_patch14_dinov2.lvd142m'``. As in timm,
            ``'hf-hub:account/model'`` and ``'local-dir:folder'`` too.
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
        name = _checked_name(name)
        model: Any
        model, self._convert = _created(name, image_size, pretrained, dict(options or {}))
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
            return self._maps(images, self.norm)
        except torch.cuda.OutOfMemoryError:
            raise
        except REFUSALS as error:
            raise ConfigError(self._refusal(images, sentence_of(error).rstrip('.')), owner=self.owner) from error

    def _maps(self, images: Tensor, norm: bool) -> tuple[Tensor, ...]:
        maps = self.model.forward_intermediates(
            images, indices=sorted(set(self.levels)), norm=norm, stop_early=True, intermediates_only=True
        )
        return tuple(maps[place] for place in self._order)

    def _refusal(self, images: Tensor, fault: str) -> str:
        name, own = f"'{self.name}'", tuple(self.model.pretrained_cfg['input_size'][1:])
        blank = images.new_zeros(1, 3, *own)
        if self.norm and any(self._takes(one, False) and not self._takes(one, True) for one in (images, blank)):
            return f': {name} gives no maps with its last norm ({fault}): set norm=False'
        if self.img_size is None and not self._takes(blank, self.norm):
            return f': {name} gives no maps ({fault}): take another model'
        refused, taken = ('x'.join(map(str, size)) for size in (images.shape[2:], own))
        return (
            f': {name} takes images of {taken}, not of {refused} ({fault}): set image_size={own[0]}, and images are '
            'stretched to it'
        )

    def _takes(self, images: Tensor, norm: bool) -> bool:
        try:
            self._maps(images, norm)
        except REFUSALS:
            return False
        return True

    def take(self, weights: Mapping[str, Any]) -> list[str]:
        """Load published weights, by the names of timm or, where timm converts them, of their authors.

        Classifiers and other heads give no maps: they are 0 afterwards, whether the file has them or not.

        Args:
            weights: By name.

        Returns:
            The names of what was left out, in the file or in the model.

        Raises:
            ValueError: If a weight that gives maps is missing or of another shape, or the file has more of such a part.
        """
        from timm.models import clean_state_dict

        weights = self._converted(clean_state_dict(dict(weights)))
        state, heads = self.model.state_dict(), _heads(self.model)
        own = {key: value for key, value in state.items() if _part(key) not in heads}
        counts = {key for key in own if key.endswith('num_batches_tracked')}
        missing = sorted(own.keys() - weights.keys() - counts)
        reshaped = [key for key in own if key in weights and own[key].shape != weights[key].shape]
        foreign = sorted(key for key in weights.keys() - own.keys() if _part(key) in {_part(one) for one in own})
        for kind, keys in (('missing', missing), ('of another shape', reshaped), ('too many', foreign)):
            if keys:
                some = ', '.join(keys[:3]) + (', …' if len(keys) > 3 else '')
                raise ValueError(f'{len(keys)} keys of {type(self.model).__name__} are {kind} ({some})')
        left_out = {key: torch.zeros_like(value) for key, value in state.items() if key not in own}
        self.model.load_state_dict({**left_out, **{key: weights[key] for key in own if key in weights}})
        return sorted(left_out.keys() | weights.keys() - own.keys())

    def _converted(self, weights: dict[str, Any]) -> dict[str, Any]:
        """Return weights under timm's names, resampled as timm does it: every family reads what its authors publish."""
        if self._convert is None:
            return weights
        try:
            try:
                return dict(self._convert(weights, self.model))
            except TypeError:  # as timm's loader does: some take the weights alone
                return dict(self._convert(weights))
        except (KeyError, AttributeError, RuntimeError, AssertionError, TypeError, ValueError) as error:
            kind = type(self.model).__name__
            raise ValueError(f'timm cannot read it as weights of {kind}: {sentence_of(error)}') from error


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


def _checked_name(name: str) -> str:
    """Return the name of a model that timm knows; of what stands in a folder or on a hub, the name as it is."""
    known = timm_library().list_models()
    source, _, place = name.partition(':')
    own = place.removeprefix('timm/') if source == 'hf-hub' else name  # what timm's own account has, timm knows by name
    if source in SOURCES and ('@' in own or own.partition('.')[0] not in known):
        return name
    base, _, tag = own.partition('.')
    if base not in known:
        raise ValueError(f"timm has no model '{base}'{nearest(base, known)}")
    tags = [one.partition('.')[2] for one in timm_library().list_pretrained(f'{base}.*')]
    if tag and tag not in tags:
        published = f': they are {", ".join(tags)}' if tags else ''
        raise ValueError(f"timm knows no weights '{tag}' of '{base}'{published}")
    return own


def _created(
    name: str, image_size: Sequence[int] | None, pretrained: bool, options: dict[str, Any]
) -> tuple[nn.Module, Callable[..., Any] | None]:
    """Return a model, and the function that converts its authors' weights: timm gives that to nothing but its loader."""
    library, builder = timm_library(), import_module('timm.models._builder')
    fixed: list[dict[str, Any]] = [] if image_size is None else [dict(img_size=tuple(image_size))]
    faults = []
    with patch.object(builder, 'load_pretrained', wraps=builder.load_pretrained if pretrained else None) as loader:
        for sizes in (*fixed, *ANY_SIZE):
            try:
                model = library.create_model(name, pretrained=True, **{'num_classes': 0, **sizes, **options})
            except TypeError as error:  # its constructor has no such option
                faults.append(error)
            else:
                return model, loader.call_args.kwargs['filter_fn']
    raise ValueError(f"model '{name}' of timm cannot be built: {sentence_of(faults[-1])}") from faults[-1]


def _heads(model: Any) -> set[str]:
    """Return the parts that a model without classes has as empty places, or not at all."""
    named = model.pretrained_cfg.get('classifier') or ()
    return {_part(one) for one in ([named] if isinstance(named, str) else named)} | {'head', 'fc_norm', 'attn_pool'}


def _part(key: str) -> str:
    return key.partition('.')[0]
