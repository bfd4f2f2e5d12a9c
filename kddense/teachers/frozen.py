"""A teacher of OpenMMLab: a config and a checkpoint."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from kddense.configs import (
    classes_of,
    current_scope,
    plain_model,
    read_config,
    require_library,
)
from kddense.errors import ConfigError, within
from kddense.pretrained import pretrained_in, without_pretrained
from kddense.random_state import forked_random_state
from kddense.registry import MODELS, TEACHERS

from .one_model import ModelTeacher


@TEACHERS.register_module()
class FrozenTeacher(ModelTeacher):
    """The default teacher: a model of mmdet, mmseg or any other library of OpenMMLab.

    Args:
        config: ``'package::path'``, the path of a config file, a ``Config``, or a dict: a whole config, or a model.
            The config of a run of kddense stands for its student.
        checkpoint: Path or URL of its weights; ``None``, spelt out, leaves it untrained, but for the parts whose
            ``init_cfg`` names weights (``type='Pretrained'``).
        name: What messages call it: the config key it came from.
        **kwargs: See :class:`ModelTeacher`.

    Raises:
        ValueError: If an argument, the config or the checkpoint does not fit; the message names the config key.
        FileNotFoundError: If there is no such checkpoint.

    Example:
        >>> teacher = dict(
        ...     config='mmdet::faster_rcnn/faster-rcnn_r101_fpn_2x_coco.py', checkpoint='r101.pth', precision='bf16')
    """

    def __init__(
        self,
        config: str | Path | Config | Mapping[str, Any],
        checkpoint: str | None,
        name: str = 'teacher',
        **kwargs: Any,
    ) -> None:
        self._package = config.partition('::')[0] if isinstance(config, str) and '::' in config else None
        self._file = config if isinstance(config, (str, Path)) else None
        self._config = read_config(config, name)
        self._key = name
        self._pretrained = checkpoint is None
        super().__init__(checkpoint, name=name, **kwargs)

    def build_model(self) -> nn.Module:
        config = self._config
        whole = config if config.get('model') else dict(model=config)
        if not isinstance(whole['model'], Mapping) or 'type' not in whole['model']:
            raise ConfigError(
                ' holds no model: it needs a `model` dict, or to be one with a `type`', f'{self._key}.config'
            )
        self.classes = classes_of(config)
        model = plain_model(whole)
        scope = config.get('default_scope') or self._package or current_scope()
        require_library(model, scope, f'{self._key}.config')
        where = f'{self._key}.config{".model" if whole is config else ""}'
        with within(where, model), forked_random_state(), DefaultScope.overwrite_default_scope(scope):
            built: Any = MODELS.build(copy.deepcopy(model))  # some of mmdet's write into their configs
            if self._pretrained and pretrained_in(model):
                built.init_weights()
            if not isinstance(built, nn.Module):
                raise ConfigError(f' must be a model, {model["type"]} gave a {type(built).__name__}')
        return built

    def take_weights(self, model: nn.Module, checkpoint: str) -> tuple[str, ...] | None:
        try:
            return super().take_weights(model, checkpoint)
        except FileNotFoundError as error:
            raise FileNotFoundError(f'{error}{self._how_to_train(Path(checkpoint).parent)}') from error

    def _how_to_train(self, folder: Path) -> str:
        """Return the command that fills the folder of the checkpoint, where a run would make it."""
        if self._file is None or folder.is_dir():
            return ''
        return f'; to train it: kddense train {self._file} --work-dir {folder}'

    def model_text(self) -> str:
        config = self._config
        model = plain_model(config if config.get('model') else dict(model=config))
        return json.dumps(without_pretrained(model), sort_keys=True, default=repr)
