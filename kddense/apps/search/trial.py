"""One student: what it costs, and what it comes to after a short training."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope

from kddense.apps.measure.table import METRICS
from kddense.configs import plain_model
from kddense.files import write_whole
from kddense.report.costs import measure_costs
from kddense.report.examples import Example
from kddense.training.checkpoints import find_checkpoint
from kddense.training.runs import metrics_of, read_run
from kddense.training.settings import steps_of

CONFIG = 'config/trial.py'
RESULT = 'result.json'
LOOK = 0.5
SCALES = {'latency': 1.0, 'multiply_adds': 1e9, 'parameters': 1e6}


def costs_of(config: Config) -> dict[str, float]:
    """Measure a student on its first validation image: milliseconds, billions of multiply-adds, millions of weights."""
    with DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmengine')):
        model: Any = MODELS.build(plain_model(config)).eval()
        image = Example.of(DATASETS.build(config.val_dataloader.dataset), 0)
        found = measure_costs({'student': model}, {'student': image}, rounds=11)['student']
    return {name: getattr(found, name) / scale for name, scale in SCALES.items()}


def train(
    config: Config, folder: Path, told: Callable[[int, dict[str, float]], bool], lock: IO[bytes]
) -> dict[str, float] | None:
    """Train and validate in a process of its own; what was cut off goes on.

    Args:
        config: What to train.
        folder: Its work_dir.
        told: Is given the number of each validation and its metrics, and tells whether to end early.
        lock: What locks the folder; the process holds it too, for it may outlive this one.

    Returns:
        The last validation's metrics; ``None`` if it was ended early.

    Raises:
        RuntimeError: If the training failed.
    """
    if (folder / RESULT).exists():
        return dict(json.loads((folder / RESULT).read_text()))
    write_whole(folder / CONFIG, config.pretty_text.encode())
    length, _ = steps_of(config)
    resume = ['--resume'] if find_checkpoint(folder) else []
    command = [sys.executable, '-m', 'kddense', 'train', str(folder / CONFIG), '--work-dir', str(folder), *resume]
    seen: set[int] = set()
    with (folder / 'output.log').open('ab') as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, pass_fds=[lock.fileno()])
    try:
        ended = False
        while not ended:
            ended = process.poll() is not None
            validations = read_run(folder, 'trial').validations
            for one in validations:
                number = math.ceil(one['step'] / config.train_cfg.val_interval)
                if number not in seen and told(number, metrics_of(one)) and not ended:
                    return None
                seen.add(number)
            time.sleep(0 if ended else LOOK)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if process.returncode != 0 or not validations or validations[-1]['step'] < length:
        lines = [line for line in (folder / 'output.log').read_text(errors='replace').splitlines() if line.strip()]
        raise RuntimeError(f'{lines[-1] if lines else "no output"}; see {folder / "output.log"}')
    metrics = metrics_of(validations[-1])
    write_whole(folder / RESULT, json.dumps(metrics).encode())
    return metrics


def metric_in(metrics: dict[str, float], name: str | None) -> str:
    """Return the metric that decides.

    Raises:
        ValueError: If it was not measured.
    """
    if name is None:
        return next((one for one in METRICS if one in metrics), next(iter(metrics)))
    if name not in metrics:
        raise ValueError(f"metric: there is no '{name}', only {', '.join(metrics)}")
    return name
