"""Detectors of the DETR family: the queries that a decoder is given, and what heads say about them, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .errors import ViewError
from .maps import PerImage


@dataclass(frozen=True)
class Queries(PerImage):
    """What a decoder asks of the images. Which fields there are, and their widths, depends on the family.

    Attributes:
        query: Contents, shape ``(N, Q, C)``.
        query_pos: Their positions: an embedding ``(N, Q, C)``; of DAB-DETR boxes before their sigmoid, ``(N, Q, 4)``;
            ``None`` where the decoder makes it of the reference points (DINO).
        reference_points: Where they look, relative to the image, in 0..1: points ``(N, Q, 2)`` or boxes ``(N, Q, 4)`` as
            centre and size; ``None`` where there are none (DETR, Conditional and DAB-DETR).
    """

    query: Tensor
    query_pos: Tensor | None = None
    reference_points: Tensor | None = None

    @property
    def count(self) -> int:
        """The queries of one image, Q."""
        return self.query.shape[1]


@dataclass(frozen=True)
class QueryOpinion:
    """What a detector of the DETR family says about queries.

    Attributes:
        logits: Of each of L decoder layers, shape ``(N, L, Q, K)``, in float32; ``(N, L, Q, K + 1)`` with the background
            last where classes exclude one another.
        boxes: Centre and size relative to the image without its padding, in 0..1, shape ``(N, L, Q, 4)``, in float32.
        sigmoid: Whether each class is decided on its own.
        queries: The queries.
        states: What the decoder's layers made of them, from which the heads speak, shape ``(N, L, Q, C)``, in float32.
        given: What the decoder is given of the images besides: what the encoder made of them, masks, sizes.
        decoder: Judges queries: maps :class:`Queries` and such a ``given`` to a :class:`QueryOpinion`, of the student with
            gradients. ``None`` once the opinion is about single images.
    """

    logits: Tensor
    boxes: Tensor
    sigmoid: bool
    queries: Queries
    states: Tensor
    given: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    decoder: Callable[[Queries, Mapping[str, Any]], QueryOpinion] | None = field(
        default=None, repr=False, compare=False
    )

    @property
    def scores(self) -> Tensor:
        """The probability of the likeliest class that is no background, shape ``(N, L, Q)``."""
        classes = self.logits.sigmoid() if self.sigmoid else self.logits.softmax(-1)[..., :-1]
        return classes.amax(-1)

    def judge(self, queries: Queries) -> QueryOpinion:
        """Return what the same model says about other queries of the same images.

        Raises:
            ViewError: If this opinion is no longer bound to the images.
        """
        if self.decoder is None:
            raise ViewError('an opinion of single images judges no other queries: ask the model itself')
        return self.decoder(queries, self.given)

    def cut(self, images: int) -> list[QueryOpinion]:
        """Return the opinions on the single images."""
        return [
            QueryOpinion(logits, boxes, self.sigmoid, queries, states)
            for logits, boxes, queries, states in zip(
                self.logits.split(1), self.boxes.split(1), self.queries.cut(images), self.states.split(1), strict=True
            )
        ]

    @classmethod
    def join(cls, opinions: Sequence[QueryOpinion]) -> QueryOpinion:
        """Put the opinions on single images together."""
        return cls(
            torch.cat([one.logits for one in opinions]),
            torch.cat([one.boxes for one in opinions]),
            opinions[0].sigmoid,
            Queries.join([one.queries for one in opinions]),
            torch.cat([one.states for one in opinions]),
        )
