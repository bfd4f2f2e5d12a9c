"""The peers of mutual learning as checkpoints of their own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import weights_to_cpu

from kddense.files import write_whole
from kddense.objectives import MutualObjective
from kddense.registry import HOOKS

from .strategies import refuse_parts


@HOOKS.register_module()
class PeerHook(Hook):
    """At the end of a training, writes each peer as ``peer_<objective>.pth`` into the work_dir: a plain checkpoint.

    Its keys are those of the peer's own config, with which any stock tool tests it.

    Example:
        >>> default_hooks = dict(peer=dict(type='kddense.PeerHook'))
    """

    priority = 'VERY_LOW'

    def before_run(self, runner: Runner) -> None:
        refuse_parts(self, runner.model)

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Write the peers.

        Raises:
            ValueError: If there is none.
        """
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        peers = {
            name: objective
            for name, objective in getattr(model, 'named_objectives', {}).items()
            if isinstance(objective, MutualObjective)
        }
        if not peers:
            raise ValueError('the PeerHook finds no kddense.MutualObjective, whose peer it would write')
        meta = dict(iter=runner.iter, epoch=runner.epoch, seed=runner.seed, dataset_meta=_meta_of(runner))
        for name, objective in peers.items():
            contents = io.BytesIO()
            torch.save(dict(meta=meta, state_dict=weights_to_cpu(objective.peer.model.state_dict())), contents)
            write_whole(Path(runner.work_dir) / f'peer_{name}.pth', contents.getvalue())


def _meta_of(runner: Runner) -> dict[str, Any]:
    found = getattr(runner.train_dataloader.dataset, 'metainfo', {})
    return {key: found[key] for key in ('classes', 'palette') if key in found}
