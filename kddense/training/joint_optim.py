"""Several optimisers that step together on one backward pass: the student's, and those of adversarial objectives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import AmpOptimWrapper, ApexOptimWrapper, OptimWrapper, OptimWrapperDict, build_optim_wrapper
from mmengine.registry import OPTIMIZERS
from torch import Tensor, nn

from kddense.distiller import Distiller
from kddense.registry import OPTIM_WRAPPER_CONSTRUCTORS

STUDENT = 'student'
WHERE = 'optim_wrapper.objectives'
ENTRY_KEYS = ('optimizer', 'clip_grad')


class JointOptimWrapper(OptimWrapperDict):
    """One backward pass for all, then every optimiser clips its own gradients and steps.

    To the model and the loop it is one wrapper; to ``param_scheduler``, ``auto_scale_lr``, the log and the checkpoint it
    is a dict of them by name. The student's wrapper alone decides when to update (gradient accumulation) and in which
    precision the model runs. Under loss scaling there is one scaler, and an infinite gradient in any of the optimisers
    makes all of them skip the step: discriminator and student stay in step with each other.

    The log shows ``student.lr`` and ``holistic.lr``, and where gradients are clipped ``student.grad_norm`` and
    ``holistic.grad_norm``.

    Args:
        student: The wrapper of the student's optimiser.
        **objectives: Plain wrappers by the name of their objective. Their ``accumulative_counts`` are not looked at.

    Raises:
        ValueError: If the student's wrapper is of a type that cannot share its backward pass.

    Example:
        >>> import torch
        >>> student, adversary = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
        >>> wrapper = JointOptimWrapper(
        ...     student=OptimWrapper(torch.optim.SGD(student.parameters(), lr=0.1)),
        ...     holistic=OptimWrapper(torch.optim.Adam(adversary.parameters(), lr=4e-4)))
        >>> wrapper.update_params(student(torch.ones(1, 2)).sum() + adversary(torch.ones(1, 2)).sum())
        >>> wrapper.get_lr()
        {'student.lr': [0.1], 'holistic.lr': [0.0004]}
    """

    def __init__(self, student: OptimWrapper, **objectives: OptimWrapper) -> None:
        if not isinstance(student, OptimWrapper) or isinstance(student, (ApexOptimWrapper, OptimWrapperDict)):
            raise ValueError(
                f"optim_wrapper.type must be 'OptimWrapper' or 'AmpOptimWrapper' where several optimisers step together, "
                f"got '{type(student).__name__}'"
            )
        super().__init__(student=student, **objectives)
        for name, wrapper in self.items():
            if wrapper.clip_grad_kwargs:
                wrapper.grad_name = f'{name}.{wrapper.grad_name}'
        self._student = student
        self._objectives = list(objectives.values())
        self._scales_loss = isinstance(student, AmpOptimWrapper)
        if self._scales_loss:
            student.loss_scaler = _JointScaler(student.loss_scaler, student, self._objectives)

    def update_params(
        self, loss: Tensor, step_kwargs: dict[str, Any] | None = None, zero_kwargs: dict[str, Any] | None = None
    ) -> None:
        """Back-propagate, and where an update is due, let every optimiser step and zero its gradients.

        Args:
            loss: The sum of all losses, a scalar.
            step_kwargs: Arguments for every ``step``.
            zero_kwargs: Arguments for every ``zero_grad``.
        """
        OptimWrapper.update_params(self, loss, step_kwargs, zero_kwargs)

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Back-propagate once, for all."""
        self._student.backward(loss, **kwargs)

    def step(self, **kwargs: Any) -> None:
        """Clip and step, each optimiser its own parameters."""
        self._student.step(**kwargs)
        if self._scales_loss:
            return  # the scaler has stepped them all, or none
        for wrapper in self._objectives:
            wrapper.step(**kwargs)

    def zero_grad(self, **kwargs: Any) -> None:
        """Zero all gradients."""
        for wrapper in self.values():
            wrapper.zero_grad(**kwargs)

    def optim_context(self, model: nn.Module) -> AbstractContextManager[None]:
        """Return the student's context: autocast, and no synchronisation while gradients accumulate."""
        return self._student.optim_context(model)

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Tell the student's wrapper where training begins and ends."""
        self._student.initialize_count_status(model, init_counts, max_counts)

    def should_update(self) -> bool:
        """Tell whether gradients have accumulated enough."""
        return self._student.should_update()

    def should_sync(self) -> bool:
        """Tell whether processes exchange gradients in the coming backward pass."""
        return self._student.should_sync()

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Divide the loss by the number of batches that accumulate."""
        return self._student.scale_loss(loss)

    @property
    def inner_count(self) -> int:
        """The number of backward passes so far."""
        return self._student.inner_count

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore every optimiser by its name.

        What the checkpoint holds beyond is left out with a warning: an objective may be switched off half-way.

        Args:
            state_dict: What :meth:`state_dict` returned.

        Raises:
            ValueError: If one of the optimisers is not in it, or its state does not fit. Resuming would go on with a
                trained student and an untrained adversary, and mmengine could not restore the schedules either.
        """
        if 'param_groups' in state_dict:
            raise ValueError(
                f'the checkpoint holds the state of a single optimiser, this training has {_list(self.keys())}: '
                'it cannot be resumed; start from its weights with load_from, without resume'
            )
        missing = [name for name in self.keys() if name not in state_dict]
        if missing:
            raise ValueError(
                f'the checkpoint has no optimiser of {_list(missing)}, only of {_list(state_dict)}: it cannot be resumed; '
                'start from its weights with load_from, without resume'
            )
        surplus = [name for name in state_dict if name not in self]
        if surplus:
            print_log(f'left out of the checkpoint: the optimiser of {_list(surplus)}', logger='current', level=30)
        for name, wrapper in self.items():
            try:
                wrapper.load_state_dict(state_dict[name])
            except ValueError as error:
                raise ValueError(f"the checkpoint's optimiser of '{name}' does not fit: {error}") from error


class _JointScaler:
    """Shows a ``GradScaler`` all optimisers as one, so that it looks for infinities in all gradients at once.

    The student's wrapper holds it in place of its own scaler and, as ever, asks to unscale, step and update once.
    To the scaler, ``self`` is the optimiser.
    """

    def __init__(self, scaler: Any, student: OptimWrapper, objectives: list[OptimWrapper]) -> None:
        self._scaler = scaler
        self._all = _AllOptimizers(student, objectives)

    def unscale_(self, optimizer: Any) -> None:
        self._scaler.unscale_(self._all)

    def step(self, optimizer: Any, **kwargs: Any) -> None:
        self._scaler.step(self._all, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scaler, name)


class _AllOptimizers:
    """As much of an optimiser as a ``GradScaler`` asks for."""

    def __init__(self, student: OptimWrapper, objectives: list[OptimWrapper]) -> None:
        self._student = student
        self._objectives = objectives

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        wrappers = [self._student, *self._objectives]
        return [group for wrapper in wrappers for group in wrapper.optimizer.param_groups]

    def step(self, **kwargs: Any) -> None:
        self._student.optimizer.step(**kwargs)  # its wrapper has clipped already
        for wrapper in self._objectives:
            wrapper.step(**kwargs)


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
              such as ``'LearningRateDecayOptimizerConstructor'``.
        paramwise_cfg: Passed to the student's constructor.

    Raises:
        ValueError: If an entry is malformed, the model is no distiller, an entry names an objective that it does not
            have, or an adversarial objective has no entry.

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

    def __init__(self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None) -> None:
        config = dict(optim_wrapper_cfg)
        self.entries = _check_entries(config.pop('objectives', None) or {})
        constructor = config.pop('student_constructor', 'DefaultOptimWrapperConstructor')
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

    def _check_names(self, distiller: Distiller) -> None:
        there = _list(distiller.objectives) or 'none'
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
                    f"{WHERE}.{name} has no key '{key}', only {_list(ENTRY_KEYS)}; "
                    "precision and accumulation are the student's"
                )
    return dict(entries)


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


def _list(names: Iterable[str]) -> str:
    return ', '.join(map(repr, names))
