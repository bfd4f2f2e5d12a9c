"""Several optimisers that step together on one backward pass: the student's, and those of adversarial objectives."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper, ApexOptimWrapper, OptimWrapper, OptimWrapperDict
from torch import Tensor, nn


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
                f'the checkpoint holds the state of a single optimiser, this training has {quoted(self.keys())}: '
                'it cannot be resumed; start from its weights with load_from, without resume'
            )
        missing = [name for name in self.keys() if name not in state_dict]
        if missing:
            raise ValueError(
                f'the checkpoint has no optimiser of {quoted(missing)}, only of {quoted(state_dict)}: it cannot be resumed; '
                'start from its weights with load_from, without resume'
            )
        surplus = [name for name in state_dict if name not in self]
        if surplus:
            print_log(f'left out of the checkpoint: the optimiser of {quoted(surplus)}', logger='current', level=30)
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


def quoted(names: Iterable[str]) -> str:
    """Return names in quotes, with commas between them."""
    return ', '.join(map(repr, names))


def wrappers_in(optim_wrapper: OptimWrapper | OptimWrapperDict) -> list[OptimWrapper]:
    """Return the optimiser wrappers of a training: one, or the student's and those that objectives have of their own."""
    return list(optim_wrapper.values()) if isinstance(optim_wrapper, OptimWrapperDict) else [optim_wrapper]
