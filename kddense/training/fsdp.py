"""Training with weights in parts: each process keeps a share of them, of their gradients and of the optimiser's state."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from mmengine._strategy.distributed import DDPStrategy
from mmengine.device import get_device
from mmengine.dist import broadcast, get_world_size
from mmengine.optim import OptimWrapperDict
from torch import Tensor, nn

from kddense.distiller import Distiller
from kddense.distiller.state import OWN_STATE, own_state_in
from kddense.errors import ConfigError
from kddense.registry import STRATEGIES
from kddense.taps import map_tensors

from .added_hook import student_of
from .strategies import WHERE
from .units import BACKBONE, blocks_of, check_sharding, units_of
from .whole_checkpoints import STEP, WholeCheckpoints

try:
    from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor, distribute_tensor
except ImportError:  # before PyTorch 2.6
    fully_shard = None  # type: ignore[assignment]


@STRATEGIES.register_module()
class FSDPStrategy(WholeCheckpoints, DDPStrategy):
    """A strategy of mmengine's ``FlexibleRunner`` for models too large for one device: PyTorch's ``fully_shard`` (FSDP).

    Student and objectives are sharded: each process keeps a part of every weight, of its gradient and of the optimiser's
    state, and gathers a unit's weights while it runs. Modules keep their names, so taps, ``paramwise_cfg`` and patterns mean
    what they mean anywhere. Checkpoints are whole files, as of a run without sharding: stock tools load them, and a run
    resumes with any number of processes, sharded or not.

    mmengine's own ``FSDPStrategy`` renames parts, and cannot resume on PyTorch 2.1 and later; runs that distil refuse it.

    Args:
        units: Parts of the student whose weights are gathered one at a time; those of the rest, for the whole step.
            ``'blocks'``: each part of the backbone that has weights, and the neck. ``'none'``: everything is gathered for
            the whole step; gradients and the optimiser's state are sharded all the same. Or a list of regular expressions
            of whole paths, such as ``['backbone.layer[1-4]']``.
        shard_teacher: Shard teachers too, by their backbone and neck. By default each process holds them whole.
        **kwargs: ``sync_bn``, and what else mmengine's strategies take.

    Raises:
        ImportError: Before PyTorch 2.6.
        ValueError: When the model is sharded, if a unit is no such part, or something of the config cannot be sharded.

    Example:
        >>> runner_type = 'FlexibleRunner'
        >>> strategy = dict(type='kddense.FSDPStrategy', shard_teacher=True)
    """

    config_key = WHERE

    def __init__(
        self, *, units: Literal['blocks', 'none'] | Sequence[str] = 'blocks', shard_teacher: bool = False, **kwargs: Any
    ) -> None:
        if fully_shard is None:
            raise ImportError(
                f'{WHERE}: kddense.FSDPStrategy needs PyTorch 2.6 or later, this is {torch.__version__}: '
                "train without it, under 'MMDistributedDataParallel'"
            )
        super().__init__(**kwargs)
        self.units = units
        self.shard_teacher = shard_teacher
        self._scalars: dict[str, nn.Parameter] = {}

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        """Shard a model in place; it stays what it was, with the same names."""
        device = get_device()
        model = self.convert_model(model.to(device))
        mesh = init_device_mesh(torch.device(device).type, (get_world_size(),))
        student = student_of(model)
        units = units_of(student, self.units)
        if isinstance(model, Distiller):
            check_sharding(model, units, self.shard_teacher)
            for tensor in model.objectives.state_dict().values():  # the student's were sent by mmengine
                broadcast(tensor)
            for teacher in model.teachers.values() if self.shard_teacher else ():
                _shard_frozen(teacher.model, mesh)
        scalars = _without_scalars(model)
        for unit in units:
            fully_shard(unit, mesh=mesh)
        fully_shard(model, mesh=mesh)
        type(model).__deepcopy__ = _refuse_to_copy  # type: ignore[attr-defined]
        self._scalars = {name: one for name, one in model.named_parameters() if name in scalars}
        return model

    def load_model_state_dict(self, state_dict: dict[str, Any], **kwargs: Any) -> None:
        """Take this process's part of a whole state.

        Args:
            state_dict: That of a plain student, or of a run that distils.
            **kwargs: See mmengine's strategies.
        """
        ours = self.model.state_dict()
        parts: Any = OrderedDict((key, _part(value, ours.get(key))) for key, value in state_dict.items())
        parts._metadata = dict(getattr(state_dict, '_metadata', {}))
        own, saved = own_state_in(ours), own_state_in(state_dict)
        if saved:
            saved = {key: _part(value, own.get(key)) for key, value in saved.items()}
            parts._metadata[''] = {**parts._metadata[''], OWN_STATE: saved}
        super().load_model_state_dict(parts, **kwargs)

    def load_optim_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take this process's part of a whole state.

        Args:
            state_dict: Of one optimiser, or of several by name.
        """
        several = isinstance(self.optim_wrapper, OptimWrapperDict)
        optimisers = self._optimisers()
        whole = state_dict if several else {'': state_dict}
        # What is of another kind of wrapper is left to the wrapper, whose error says so.
        known = {name: one for name, one in whole.items() if name in optimisers and 'param_groups' in one}
        parts = {name: _parts(one, optimisers[name]) for name, one in known.items()}
        super().load_optim_state_dict({**state_dict, **parts} if several else parts.get('', state_dict))

    def _optimisers(self) -> dict[str, torch.optim.Optimizer]:
        wrapper = self.optim_wrapper
        wrappers = dict(wrapper.items()) if isinstance(wrapper, OptimWrapperDict) else {'': wrapper}
        return {name: one.optimizer for name, one in wrappers.items()}

    def _gather_model(self) -> dict[str, Any]:
        state: Any = self.model.state_dict()
        for key, value in state.items():
            state[key] = self._whole_of(key, value)
        own = own_state_in(state)
        if own:
            state._metadata[''][OWN_STATE] = {key: self._whole_of(key, value) for key, value in own.items()}
        return state

    def _whole_of(self, name: str, value: Any) -> Any:
        value = map_tensors(_whole, value)
        return value.reshape(()) if name in self._scalars else value

    def _gather_optimisers(self) -> dict[str, Any]:
        state = self.optim_wrapper.state_dict()
        several = isinstance(self.optim_wrapper, OptimWrapperDict)
        for name, optimiser in self._optimisers().items():
            kept = state[name] if several else state
            kept['state'] = {
                index: {key: self._state_of(one, value) for key, value in values.items()}
                for index, one, values in _by_parameter(kept, optimiser)
            }
        return map_tensors(_whole, state)

    def _state_of(self, parameter: Tensor, value: Any) -> Any:
        is_scalar = any(parameter is one for one in self._scalars.values())
        value = map_tensors(_whole, value)
        return value.reshape(()) if is_scalar and isinstance(value, Tensor) else value


def _shard_frozen(model: Any, mesh: DeviceMesh) -> None:
    """Shard the backbone and the neck of a teacher; unlike a student's, none of them stays gathered."""
    for part in [*blocks_of(model), getattr(model, BACKBONE)]:
        fully_shard(part, mesh=mesh, reshard_after_forward=True)


def _without_scalars(model: nn.Module) -> set[str]:
    """Give parameters without a dimension one, as they cannot be sharded; return their names."""
    names = {name for name, one in model.named_parameters() if one.dim() == 0}
    for module in model.modules():
        for name, one in module.named_parameters(recurse=False):
            if one.dim() == 0:
                setattr(module, name, nn.Parameter(one.data.reshape(1), one.requires_grad))
    return names


def _whole(value: Tensor) -> Tensor:
    """Return all of a tensor, on the CPU; all processes take part."""
    value = value.detach()
    return (value.full_tensor() if isinstance(value, DTensor) else value).cpu()


def _part(value: Any, like: Any) -> Any:
    """Return this process's part of a whole tensor, where ``like`` is sharded and of as many numbers."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.numel() != like.numel():
        return value
    return distribute_tensor(value.reshape(like.shape).to(like.device), like.device_mesh, like.placements)


def _parts(saved: Mapping[str, Any], optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Return this process's part of the whole state of an optimiser."""
    state = {
        index: {key: value if key == STEP else _part(value, parameter) for key, value in values.items()}
        for index, parameter, values in _by_parameter(saved, optimiser)
    }
    return {**saved, 'state': state}


def _by_parameter(state: Mapping[str, Any], optimiser: torch.optim.Optimizer) -> Iterator[tuple[int, Tensor, Mapping]]:
    """Yield what an optimiser's state says of each parameter: its number, itself, and that."""
    for group, kept in zip(optimiser.param_groups, state['param_groups'], strict=False):
        for parameter, index in zip(group['params'], kept['params'], strict=False):
            if index in state['state']:
                yield index, parameter, state['state'][index]


def _refuse_to_copy(model: nn.Module, memo: Mapping[int, Any]) -> nn.Module:
    raise ConfigError(
        ': a student that is sharded cannot be copied, as an average of it would need (EMAHook): remove the hook, or train '
        'without kddense.FSDPStrategy',
        'custom_hooks',
    )
