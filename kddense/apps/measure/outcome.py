"""What a run left behind: how long it was, what it scored, how large its student is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def steps_done(checkpoint: Mapping[str, Any], unit: str) -> int:
    """Return how long a training was by what its last checkpoint says, whatever its config says.

    Args:
        checkpoint: The contents of the last of a run.
        unit: ``'iterations'`` or ``'epochs'``.
    """
    return int(checkpoint['meta']['iter' if unit == 'iterations' else 'epoch'])


def scores_in(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return what a test measured, COCO's fractions as percentages, without its times."""
    scores = {key: value for key, value in metrics.items() if isinstance(value, (int, float)) and 'time' not in key}
    return {key: round(100 * value if key.startswith('coco/') else value, 6) for key, value in scores.items()}


def newest_metrics(folder: Path) -> Path:
    """Return the metrics that the last test in ``folder`` wrote: ``<timestamp>/<timestamp>.json``."""
    return max(folder.glob('*/*.json'), key=lambda path: path.stat().st_mtime)


def parameters_in(checkpoint: Mapping[str, Any]) -> int:
    """Return how many numbers the student of a checkpoint's contents learnt, running statistics aside."""
    weights = checkpoint['state_dict']
    statistics = ('running_mean', 'running_var', 'num_batches_tracked')
    return sum(value.numel() for key, value in weights.items() if not key.endswith(statistics))
