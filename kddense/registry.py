"""Child registries of mmengine's roots: ``type='kddense.Name'`` resolves in any default scope.

A type that stands in a config may say what takes its place in the config of the plain student, by a static method
``plain(config, place) -> Plain``, see :class:`Plain`; without one it is left out there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import STRATEGIES as MMENGINE_STRATEGIES
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry as MMEngineRegistry

from kddense.options import checked

SCOPE = 'kddense.'


class Registry(MMEngineRegistry):
    """mmengine's registry; the classes that are registered here check their options, see :mod:`kddense.options`.

    Args:
        *args: See mmengine's.
        place: The config key under which such parts stand in a list, such as ``'custom_hooks'``.
        **kwargs: See mmengine's.
    """

    def __init__(self, *args: Any, place: str = '', **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.place = place

    def register_module(self, name: Any = None, force: bool = False, module: Any = None) -> Any:
        """Register a class that from now on checks its options; see mmengine's."""
        if module is not None:
            return super().register_module(name, force, checked(module, self.place))
        register: Any = super().register_module(name, force)
        return lambda kind: register(checked(kind, self.place))


MODELS = Registry('model', parent=MMENGINE_MODELS, scope='kddense', locations=['kddense'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='kddense', locations=['kddense'], place='custom_hooks')
METRICS = Registry(
    'metric', parent=MMENGINE_METRICS, scope='kddense', locations=['kddense.evaluation'], place='evaluator'
)
TRANSFORMS = Registry(
    'transform', parent=MMENGINE_TRANSFORMS, scope='kddense', locations=['kddense.datasets'], place='pipeline'
)
DATASETS = Registry(
    'dataset', parent=MMENGINE_DATASETS, scope='kddense', locations=['kddense.datasets'], place='train_dataloader'
)
DATA_SAMPLERS = Registry(
    'data sampler',
    parent=MMENGINE_DATA_SAMPLERS,
    scope='kddense',
    locations=['kddense.datasets'],
    place='train_dataloader',
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='kddense',
    locations=['kddense.training'],
)
STRATEGIES = Registry('strategy', parent=MMENGINE_STRATEGIES, scope='kddense', locations=['kddense.training'])

TEACHERS = Registry('teacher', scope='kddense', locations=['kddense.teachers'])
VIEWS = MMEngineRegistry('view', scope='kddense', locations=['kddense.views'])


@dataclass(frozen=True)
class Plain:
    """What takes the place of a part of a config where there is no teacher and no kddense.

    Attributes:
        items: The parts that stand there instead, none to leave it out; the part itself to leave it as it is.
        note: What else changes by that, a phrase.
    """

    items: tuple[Mapping[str, Any], ...] = ()
    note: str = ''


def plain_of(config: Mapping[str, Any], place: str) -> Plain:
    """Return what takes the place of a part whose type is of kddense, as its class says.

    Args:
        config: The part: a transform, a hook, a metric.
        place: The config key under which it stands, such as ``'train_dataloader.dataset.pipeline'``.
    """
    plain = getattr(find(config['type']), 'plain', None)
    return Plain() if plain is None else plain(config, place)


def name_of(kind: Any) -> str:
    """Return the name of a ``type`` without its scope; configs of mmengine's new style have classes for types."""
    return getattr(kind, '__name__', None) or str(kind).rpartition('.')[2]


def find(name: str) -> Any:
    """Return the class of kddense that is registered under a name with or without its scope; ``None`` if there is none."""
    registries = (MODELS, HOOKS, METRICS, TRANSFORMS, DATASETS, DATA_SAMPLERS, OPTIM_WRAPPER_CONSTRUCTORS)
    return next(filter(None, (registry.get(f'{SCOPE}{name.removeprefix(SCOPE)}') for registry in registries)), None)
