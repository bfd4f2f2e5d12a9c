"""Building the optimisers that :class:`kddense.JointOptimWrapper` steps together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import OPTIMIZERS
from torch import nn

from kddense.distiller import Distiller
from kddense.registry import OPTIM_WRAPPER_CONSTRUCTORS, name_of

from .joint_optim import JointOptimWrapper, quoted

STUDENT = 'student'
WHERE = 'optim_wrapper.objectives'
ENTRY_KEYS = ('optimizer', 'clip_grad')
DEFAULT = 'DefaultOptimWrapperConstructor'
# Constructors of layer-wise learning rates, by the keys of `paramwise_cfg` that they alone read.
KNOWN_BY = {
    'layer_decay_rate': 'LayerDecayOptimizerConstructor',
    'decay_rate': 'LearningRateDecayOptimizerConstructor',
    'decay_type': 'LearningRateDecayOptimizerConstructor',
    'force_default_settings': 'ForceDefaultOptimWrapperConstructor',
}
READ_BY_DEFAULT = {
    'custom_keys',
    'bias_lr_mult',
    'bias_decay_mult',
    'norm_decay_mult',
    'flat_decay_mult',
    'dwconv_decay_mult',
    'dcn_offset_lr_mult',
    'bypass_duplicate',
}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class JointOptimWrapperConstructor:
    """Gives some objectives of a :class:`kddense.Distiller` optimisers of their own, beside the student's.

    Everything but the two keys below means what it always means, and is about the student: its parameters, and those of
    all objectives that have no optimiser of their own. ``param_scheduler`` may be a list, for every optimiser, or a dict
    of lists by name, with ``student`` and every objective that is named here.

    Args:
        optim_wrapper_cfg: The config of the student's wrapper, and beside it

            - ``objectives``: by the objective's name a dict of ``optimizer``, such as ``dict(type='Adam', lr=4e-4)``,
              and optionally ``clip_grad``.
            - ``student_constructor``: the constructor of the student's wrapper, if it needs another than the default,
              such as ``'LearningRateDecayOptimizerConstructor'``. Without it, those constructors of mmdet and mmseg are
              known by the keys of ``paramwise_cfg`` that they alone read.
        paramwise_cfg: Passed to the student's constructor.

    Raises:
        ValueError: If an entry is malformed, ``paramwise_cfg`` has a key that no constructor reads, the model is no
            distiller, an entry names an objective that it does not have, or an adversarial objective has no entry.

    Example:
        >>> optim_wrapper = dict(
        ...     type='OptimWrapper',
        ...     optimizer=dict(type='SGD', lr=0.01, momentum=0.9),
        ...     constructor='kddense.JointOptimWrapperConstructor',
        ...     objectives=dict(holistic=dict(optimizer=dict(type='Adam', lr=4e-4), clip_grad=dict(max_norm=1))))
        >>> warm_up = dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=500)
        >>> poly = dict(type='PolyLR', power=0.9, by_epoch=False)
        >>> param_scheduler = dict(student=[warm_up, poly], holistic=[poly])
    """

    config_key = 'optim_wrapper'

    def __init__(self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None) -> None:
        config = dict(optim_wrapper_cfg)
        self.entries = _check_entries(config.pop('objectives', None) or {})
        constructor = config.pop('student_constructor', None) or _constructor_for(paramwise_cfg or {})
        self.student_cfg = dict(config, constructor=constructor, paramwise_cfg=paramwise_cfg)

    def __call__(self, model: nn.Module) -> JointOptimWrapper:
        """Build all optimisers, and tell the objectives that they have one.

        Args:
            model: A distiller, as it is or wrapped for distributed training.
        """
        distiller = _unwrap(model)
        self._check_names(distiller)
        with _hidden(distiller.objectives, self.entries):
            student = build_optim_wrapper(distiller, self.student_cfg)
        adversaries = {name: _build(name, distiller.objectives[name], entry) for name, entry in self.entries.items()}
        wrapper = JointOptimWrapper(student, **adversaries)
        objectives: dict[str, Any] = dict(distiller.objectives.items())
        for name in self.entries:
            objectives[name].note_optimizer()
        return wrapper

    @staticmethod
    def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the optimiser and the schedules that the plain student has of a run.

        Args:
            settings: The config of the run.

        Returns:
            The keys that differ, with their values.
        """
        wrapper = settings['optim_wrapper']
        own = {key: value for key, value in wrapper.items() if key not in ('constructor', 'objectives')}
        if 'student_constructor' in own:
            own['constructor'] = own.pop('student_constructor')
        schedules = settings.get('param_scheduler')
        if not isinstance(schedules, Mapping) or STUDENT not in schedules:
            return dict(optim_wrapper=own)
        return dict(optim_wrapper=own, param_scheduler=schedules[STUDENT])

    def _check_names(self, distiller: Distiller) -> None:
        there = quoted(distiller.objectives) or 'none'
        for name in self.entries:
            if name not in distiller.objectives:
                raise ValueError(
                    f'{WHERE}.{name}: the model has no such objective that is on, only {there}: '
                    'remove it, or switch the objective on'
                )
        for name, objective in distiller.objectives.items():
            if getattr(objective, 'trains_adversary', False) and name not in self.entries:
                raise ValueError(
                    f"{WHERE} has no entry '{name}', whose discriminator needs an optimiser of its own: "
                    f"add {name}=dict(optimizer=dict(type='Adam', lr=4e-4))"
                )


def known_by(paramwise_cfg: Mapping[str, Any]) -> str:
    """Return the constructor of mmengine, mmdet or mmseg that ``paramwise_cfg`` is written for."""
    return next((KNOWN_BY[key] for key in KNOWN_BY if key in paramwise_cfg), DEFAULT)


def _constructor_for(paramwise_cfg: Mapping[str, Any]) -> str:
    """Return the constructor that reads ``paramwise_cfg``, where a config's own was replaced by this module's."""
    known = known_by(paramwise_cfg)
    if known != DEFAULT:
        print_log(
            f"optim_wrapper: {known} builds the student's optimiser, as its paramwise_cfg shows", logger='current'
        )
        return known
    unread = [key for key in paramwise_cfg if key not in READ_BY_DEFAULT]
    if unread:
        raise ValueError(
            f"optim_wrapper.paramwise_cfg: {DEFAULT} does not read {quoted(unread)}: name the student's own constructor "
            "beside it, student_constructor=_base_.optim_wrapper.get('constructor'), or remove what nobody reads"
        )
    return DEFAULT


def _check_entries(entries: Any) -> dict[str, Mapping[str, Any]]:
    if not isinstance(entries, Mapping):
        raise ValueError(f'{WHERE} must be a dict of configs by name, got a {type(entries).__name__}')
    for name, entry in entries.items():
        if name == STUDENT:
            raise ValueError(
                f"{WHERE}.{name}: the name '{name}' is taken by the student's own optimiser: rename the objective"
            )
        if not isinstance(entry, Mapping) or not isinstance(entry.get('optimizer'), Mapping):
            raise ValueError(
                f"{WHERE}.{name} needs the key 'optimizer', a config such as dict(type='Adam', lr=4e-4), got {entry!r}"
            )
        for key in entry:
            if key not in ENTRY_KEYS:
                raise ValueError(
                    f"{WHERE}.{name} has no key '{key}', only {quoted(ENTRY_KEYS)}; "
                    "precision and accumulation are the student's"
                )
    return dict(entries)


def check_schedules(config: Mapping[str, Any]) -> None:
    """Check that schedules by name have the names of the optimisers: mmengine ignores those that it does not know.

    Args:
        config: The config of a run.

    Raises:
        ValueError: If ``param_scheduler`` is a dict of other names.
    """
    schedules, wrapper = config.get('param_scheduler'), config.get('optim_wrapper') or {}
    if not isinstance(schedules, Mapping) or 'type' in schedules:
        return
    if name_of(wrapper.get('constructor') or '') != JointOptimWrapperConstructor.__name__:
        return
    names = [STUDENT, *(wrapper.get('objectives') or {})]
    if {*schedules} != {*names}:
        raise ValueError(
            f'param_scheduler must be a list for all optimisers, or a dict by their names, {quoted(names)}; got '
            f'{quoted(schedules)}'
        )


def _unwrap(model: Any) -> Distiller:
    while is_model_wrapper(model):
        model = model.module
    if not isinstance(model, Distiller):
        raise ValueError(
            f"optim_wrapper.constructor='kddense.JointOptimWrapperConstructor' needs a model of the type "
            f"'kddense.Distiller', got '{type(model).__name__}': set model.type, or remove the constructor"
        )
    return model


@contextmanager
def _hidden(modules: nn.ModuleDict, names: Iterable[str]) -> Iterator[None]:
    """Take modules out for a while: what the student's constructor does not see, it cannot hand to an optimiser."""
    everything = dict(modules.items())
    for name in names:
        del modules[name]
    try:
        yield
    finally:
        modules.clear()
        modules.update(everything)


def _build(name: str, objective: nn.Module, entry: Mapping[str, Any]) -> OptimWrapper:
    parameters = list(objective.parameters())
    if not parameters:
        raise ValueError(f'{WHERE}.{name}: this objective has no parameters to optimise: remove it')
    clip_grad = entry.get('clip_grad')
    optimizer = OPTIMIZERS.build(dict(entry['optimizer'], params=parameters))
    return OptimWrapper(optimizer, clip_grad=dict(clip_grad) if clip_grad else None)
