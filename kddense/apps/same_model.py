"""Whether a checkpoint is of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from kddense.errors import ConfigError


def check_same_model(model: nn.Module, contents: Mapping[str, Any], checkpoint: str) -> None:
    """Raise a ConfigError unless a checkpoint holds every weight of a model, and no other.

    Args:
        model: The model.
        contents: Of the checkpoint.
        checkpoint: What messages call it.
    """
    saved: Mapping[str, Any] = contents.get('state_dict', contents)
    theirs = {key.removeprefix('module.'): tuple(getattr(value, 'shape', ())) for key, value in saved.items()}
    own = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    counts = {key for key in own if key.endswith('num_batches_tracked')}
    faults = {
        'missing': own.keys() - theirs.keys() - counts,
        'unexpected': theirs.keys() - own.keys(),
        'of another shape': {key for key in own.keys() & theirs.keys() if own[key] != theirs[key]},
    }
    if any(faults.values()):
        found = [f'{len(keys)} weights {kind}, such as {min(keys)}' for kind, keys in faults.items() if keys]
        raise ConfigError(
            f"the checkpoint '{checkpoint}' is of another model than the config's {type(model).__name__}: "
            f'{"; ".join(found)}; give the config that it was trained with'
        )
