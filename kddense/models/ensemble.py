"""Several trained models that predict as one."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.nn import functional as F

from kddense.compat import load_checkpoint
from kddense.configs import current_scope, plain_model, read_config
from kddense.errors import ConfigError
from kddense.registry import MODELS


@MODELS.register_module()
class EnsembleModel(BaseModel):
    """Averages what trained models predict (BAN's ensembles of generations): for testing, it learns nothing.

    Segmentors: the mean of class probabilities. One-stage detectors: the mean of the probabilities of classes and of
    what else their heads say, place by place; the first one's head makes boxes of it. RoI heads choose boxes of their own
    and have no mean.

    Args:
        members: At least two dicts of a ``config`` (of a distillation, its student is meant) and a ``checkpoint``. All have
            the same data preprocessor, classes and places.
        data_preprocessor: The members' own, if the config keeps it beside the model.

    Raises:
        ValueError: If they cannot be averaged.
    """

    def __init__(
        self, members: Sequence[Mapping[str, Any]], data_preprocessor: Mapping[str, Any] | None = None
    ) -> None:
        if len(members) < 2:
            raise ValueError(f'members must be at least two trained models, got {len(members)}')
        configs = [read_config(one['config'], f'members[{index}]') for index, one in enumerate(members)]
        models = [plain_model(config) for config in configs]
        formats = [one.get('data_preprocessor') or data_preprocessor for one in models]
        if any(one != formats[0] for one in formats):
            raise ValueError('members must have one data preprocessor: they are given the same images')
        super().__init__(data_preprocessor=copy.deepcopy(dict(formats[0] or {})) or None)
        built = []
        for index, (config, model) in enumerate(zip(configs, models, strict=True)):
            with DefaultScope.overwrite_default_scope(config.get('default_scope') or current_scope()):
                one = MODELS.build(copy.deepcopy(dict(model)))
            one.load_state_dict(load_checkpoint(members[index]['checkpoint'])['state_dict'], strict=True)
            built.append(one)
        self.members = nn.ModuleList(built)
        if not (hasattr(built[0], 'encode_decode') or hasattr(getattr(built[0], 'bbox_head', None), 'predict_by_feat')):
            raise ConfigError(
                f'are each a {type(built[0]).__name__}, which chooses its own boxes: only segmentors and one-stage '
                'detectors have a mean',
                'members',
            )

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor') -> Any:
        """Predict with ``mode='predict'``; there is nothing to train."""
        if mode != 'predict' or data_samples is None:
            raise ValueError(f"a kddense.EnsembleModel only predicts, mode='predict', got {mode!r}")
        first: Any = self.members[0]
        if hasattr(first, 'encode_decode'):
            metas = [one.metainfo for one in data_samples]
            logits = log_mean([member.inference(inputs, metas) for member in self.members])  # type: ignore[operator]
            return first.postprocess_result(logits, data_samples)
        said = [member.bbox_head(member.extract_feat(inputs)) for member in self.members]  # type: ignore[operator]
        scores, *others = zip(*said, strict=True)
        means = [
            [log_mean(level, sigmoid=True) for level in zip(*scores, strict=True)],
            *([torch.stack(level).mean(0) for level in zip(*part, strict=True)] for part in others),
        ]
        metas = [one.metainfo for one in data_samples]
        found = first.bbox_head.predict_by_feat(*means, batch_img_metas=metas, rescale=True)
        return first.add_pred_to_datasample(data_samples, found)


def log_mean(logits: Sequence[Tensor], sigmoid: bool = False) -> Tensor:
    """Return logits of the mean probabilities of several, classes in dimension 1; of a single class always sigmoid ones."""
    if sigmoid or logits[0].shape[1] == 1:
        yes = torch.stack([F.logsigmoid(one) for one in logits]).logsumexp(0)
        return yes - torch.stack([F.logsigmoid(-one) for one in logits]).logsumexp(0)
    return torch.stack([one.log_softmax(1) for one in logits]).logsumexp(0)
