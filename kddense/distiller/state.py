"""The contract of checkpoints: what is the student's lies where the plain student's would, what is ours in the metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

STUDENT = 'student.'
OWN_STATE = 'kddense'


def own_state(distiller: nn.Module) -> dict[str, Tensor]:
    """Return what a distiller learns besides the student, by name: connectors, discriminators, banks."""
    objectives: Any = distiller.objectives
    return {f'objectives.{key}': value for key, value in objectives.state_dict().items()}


def own_state_in(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return what of a checkpoint's ``state_dict`` is ours, by the names of :func:`own_state`; empty if nothing is."""
    return dict(getattr(state, '_metadata', {}).get('', {}).get(OWN_STATE, {}))


def write_student_state(distiller: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]) -> None:
    """Turn the state of a distiller into that of the plain student; what is ours goes to the metadata.

    An average of a distiller (mmengine's EMA), which learns nothing, keeps the student alone: connectors and banks would
    else be in the checkpoint twice.

    Args:
        distiller: The distiller.
        state: What :meth:`torch.nn.Module.state_dict` gathered; changed in place.
        prefix: What its keys begin with.
        metadata: The metadata of the distiller's own level; changed in place.
    """
    distiller.finite_check.look()  # type: ignore[operator, union-attr]
    own = {}
    for key in [key for key in state if key.startswith(prefix)]:
        value = state.pop(key)
        name = key[len(prefix) :]
        if name.startswith(STUDENT):
            state[prefix + name[len(STUDENT) :]] = value
        elif not name.startswith('data_preprocessor.'):
            own[name] = value.detach().cpu()
    if own and any(parameter.requires_grad for parameter in distiller.parameters()):
        metadata[OWN_STATE] = own
    versions = getattr(state, '_metadata', {})
    for key in [key for key in versions if key.startswith(prefix + STUDENT)]:
        versions[prefix + key[len(prefix + STUDENT) :]] = versions.pop(key)


def read_student_state(distiller: nn.Module, state: dict[str, Any], prefix: str, metadata: Mapping[str, Any]) -> None:
    """Turn the state of a plain student into that of a distiller: the inverse of :func:`write_student_state`.

    What of ours is not in the checkpoint stays as it is, and is named in the log.

    Args:
        distiller: The distiller.
        state: What is to be loaded; changed in place.
        prefix: What its keys begin with.
        metadata: The metadata of the distiller's own level.
    """
    for key in [key for key in state if key.startswith(prefix)]:
        state[f'{prefix}{STUDENT}{key[len(prefix) :]}'] = state.pop(key)
    saved = metadata.get(OWN_STATE, {})
    own = {key: value for key, value in own_state(distiller).items() if key not in saved}
    if saved and own:
        print_log(f'not in the checkpoint, starting afresh: {", ".join(own)}', logger='current', level=30)
    for key, value in {**own, **saved}.items():
        state[prefix + key] = value
