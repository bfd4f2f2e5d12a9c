"""Segmentors of mmseg: heads that may be several, or a cascade."""

from __future__ import annotations

from typing import Any

from torch import nn

from .base import ModelView, Question


class SegmentorView(ModelView):
    """Every ``EncoderDecoder`` and ``CascadeEncoderDecoder`` of mmseg."""

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        return any(base.__name__ == 'EncoderDecoder' for base in type(model).__mro__)

    def run_head(self, part: str, features: Any, question: Question) -> dict[str, list[Any]]:
        head = getattr(self.model, part)
        if not isinstance(head, nn.ModuleList):
            head(features)
        elif part == 'auxiliary_head':
            for auxiliary in head:
                auxiliary(features)
        else:
            logits = head[0](features)
            for stage in head[1:]:
                logits = stage(features, logits)
        return {}
