"""What runs that distil ask of a strategy of mmengine's ``FlexibleRunner``."""

from __future__ import annotations

from typing import Any

from mmengine._strategy import DDPStrategy, DeepSpeedStrategy
from mmengine._strategy import FSDPStrategy as MMEngineFSDPStrategy
from mmengine._strategy.deepspeed import MMDeepSpeedEngineWrapper

from kddense.errors import ConfigError

try:
    from torch.distributed.fsdp import FSDPModule
except ImportError:  # before PyTorch 2.6
    FSDPModule = None  # type: ignore[assignment, misc]

WHERE = 'strategy'


def check_strategy(runner: Any) -> None:
    """Refuse strategies under which a distiller would not train, or its checkpoints be no student's.

    Args:
        runner: A runner; mmengine's usual one has no strategy.

    Raises:
        ValueError: If it has one of these.
    """
    strategy: Any = getattr(runner, 'strategy', None)
    if type(strategy) is DDPStrategy:
        raise ConfigError(
            ": under mmengine's DDPStrategy checkpoints name every weight 'module.…': leave out strategy and runner_type, "
            'the usual runner trains on several devices by itself',
            WHERE,
        )
    if isinstance(strategy, MMEngineFSDPStrategy):
        raise ConfigError(
            ": mmengine's FSDPStrategy renames the parts of a model, and its checkpoints fit no student: write "
            "strategy = dict(type='kddense.FSDPStrategy')",
            WHERE,
        )
    if type(strategy) is DeepSpeedStrategy:
        raise ConfigError(
            ": mmengine's DeepSpeedStrategy writes folders that are no checkpoints of a student: write "
            "strategy = dict(type='kddense.DeepSpeedStrategy')",
            WHERE,
        )


def is_sharded(model: Any) -> bool:
    """Tell whether a model's weights lie in parts on several processes."""
    return FSDPModule is not None and isinstance(model, FSDPModule)


def refuse_parts(hook: object, model: Any) -> None:
    """Refuse a model whose weights lie in parts, or are copied in parts, for a hook that needs them whole.

    Raises:
        ValueError: If it is one.
    """
    if is_sharded(model):
        raise ConfigError(
            f': {type(hook).__name__} needs whole weights, of which kddense.FSDPStrategy leaves each process a part: remove '
            'the hook, or train without it',
            'custom_hooks',
        )
    refuse_copies(hook, model)


def refuse_copies(hook: object, model: Any) -> None:
    """Refuse a model of whose weights copies are trained, for a hook that needs those that are used.

    Raises:
        ValueError: If it is one.
    """
    if isinstance(model, MMDeepSpeedEngineWrapper):
        raise ConfigError(
            f': {type(hook).__name__} needs weights that are trained where they lie, and kddense.DeepSpeedStrategy trains '
            'copies: remove the hook, or train without it',
            'custom_hooks',
        )
