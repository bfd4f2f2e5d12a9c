"""Mask2Former and MaskFormer: a class and a mask for each query, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class MaskQueryOpinion:
    """What a head says of its own queries: things and stuff alike.

    Attributes:
        logits: Of each decoder layer, class scores with the background last, shape ``(N, Q, K + 1)``, in float32.
        masks: Of each decoder layer, logits of masks of the whole image, shape ``(N, Q, h, w)``, in float32.
    """

    logits: tuple[Tensor, ...]
    masks: tuple[Tensor, ...]

    def cut(self, images: int) -> list[MaskQueryOpinion]:
        """Return the opinions on the single images."""
        return [
            MaskQueryOpinion(*(tuple(layer[row : row + 1] for layer in said) for said in (self.logits, self.masks)))
            for row in range(images)
        ]

    @classmethod
    def join(cls, opinions: Sequence[MaskQueryOpinion]) -> MaskQueryOpinion:
        """Put the opinions on single images together."""
        logits, masks = ([getattr(one, name) for one in opinions] for name in ('logits', 'masks'))
        return cls(*(tuple(torch.cat(layer) for layer in zip(*said, strict=True)) for said in (logits, masks)))
