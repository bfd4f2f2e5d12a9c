"""How activations become few bits, as parts of a config: what each layer is given is rounded before it computes.

Observers of ``torch.ao`` move their range in the forward pass. Here it moves after the step: recomputed activations meet
the range that they met before, a head that runs on five levels counts once, and processes agree by one exchange a step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from kddense.registry import MODELS

from ._checks import check_bits
from .learned_steps import SMALLEST_STEP, first_step, on_learned_steps
from .per_layer import PerLayer
from .steps import Mode, Steps, ends_of, signed_ends, steps_between
from .uniform import on_steps

UNSEEN = float('-inf')  # less than all that can be seen


class ActivationQuantiser(PerLayer):
    """What a quantiser of activations is: it watches in training, and rounds as soon as it has steps.

    Attributes:
        learns: Whether it has steps that are trained.
        iteration: That of the run.
        rounds: Whether values are rounded; not while steps are calibrated.
    """

    key = 'seen'
    whole = False
    learns = False
    iteration = 0
    rounds = True

    def __init__(self, bits: int) -> None:
        super().__init__()
        check_bits(bits, 2, 'activations')
        self.bits = bits
        self.known: set[str] = set()

    def begin(self, layers: Iterable[str], device: torch.device) -> None:
        """Name the layers.

        Args:
            layers: Their paths in the student.
            device: That of the student.
        """
        self.layers = {layer: number for number, layer in enumerate(layers)}
        self.known = set()
        self.forget(device)

    def forward(self, value: Tensor, layer: str) -> Tensor:
        """Return what a layer computes with.

        Args:
            value: What it is given, any floating dtype.
            layer: Its path in the student.

        Raises:
            ValueError: If the layer was never watched, and this is no training.
        """
        if value.numel() == 0 or not value.is_floating_point():
            return value
        if self.training:
            self.watch(value.detach(), layer)
        if not self.rounds or (self.training and layer not in self.known):
            return value
        if layer not in self.known:
            raise ValueError(
                f'activations: the observer of the layer {layer} saw nothing: train, or calibrate with kddense export '
                '--quantised --calibrate, on images for which it runs, or name it in skip'
            )
        return self.rounded(value, layer)

    def forget(self, device: torch.device) -> None:
        """Begin anew, with nothing seen."""
        raise NotImplementedError

    def watch(self, value: Tensor, layer: str) -> None:
        """Look at the values of a layer, unless they are of no interest any more; no step changes before :meth:`settle`."""
        raise NotImplementedError

    def rounded(self, value: Tensor, layer: str) -> Tensor:
        """Return rounded values of a layer that has steps."""
        raise NotImplementedError

    def settle(self) -> None:
        """After a step: let all processes agree what was seen, and set the steps by it."""
        raise NotImplementedError

    def steps_of(self, layer: str) -> Steps:
        """Return the steps of a layer in :attr:`known`, on the CPU."""
        raise NotImplementedError


@MODELS.register_module()
class MinMaxQuantiser(ActivationQuantiser):
    """Even steps over a range, the moving average of the least and greatest values of an iteration.

    A range moves by ``max(momentum, 1 / n)`` at its n-th iteration: it begins as the mean of what was seen. Values beyond it
    are clipped, and have no gradient. Until the first iteration ends, nothing is rounded.

    Args:
        bits: 2 to 8.
        mode: ``'affine'`` from the least to the greatest value, or ``'symmetric'`` about 0, which some backends ask for.
        momentum: By how much a range moves, as ``averaging_constant`` of ``torch.ao``.
        freeze_after: Iterations after which it rests; ``None`` for never.

    Raises:
        ValueError: If ``bits``, ``momentum`` or ``freeze_after`` do not fit.
    """

    name = 'ranges of activations'

    def __init__(
        self, bits: int = 8, mode: Mode = 'affine', momentum: float = 0.01, freeze_after: int | None = None
    ) -> None:
        super().__init__(bits)
        if not 0 < momentum <= 1:
            raise ValueError(f'momentum must be greater than 0 and at most 1, got {momentum}')
        if freeze_after is not None and freeze_after < 1:
            raise ValueError(f'freeze_after must be at least 1 iteration, or None for never, got {freeze_after}')
        self.mode: Mode = mode
        self.momentum = momentum
        self.freeze_after = freeze_after
        self.found: dict[str, Steps] = {}

    def forget(self, device: torch.device) -> None:
        number = len(self.layers)
        # (-least, greatest) of each layer: the greatest of both is what processes agree on.
        self.seen = torch.full((number, 2), UNSEEN, device=device)
        self.ranges = torch.zeros(number, 2, device=device)
        self.times = torch.zeros(number, dtype=torch.long, device=device)

    def watch(self, value: Tensor, layer: str) -> None:
        if self._is_frozen():
            return
        least, greatest = value.aminmax()
        seen = self.seen[self.layers[layer]]
        torch.maximum(seen, torch.stack([-least, greatest]).float(), out=seen)

    def _is_frozen(self) -> bool:
        """Tell whether ranges rest; not while they are calibrated."""
        return self.rounds and self.freeze_after is not None and self.iteration >= self.freeze_after

    def rounded(self, value: Tensor, layer: str) -> Tensor:
        return on_steps(value, self.found[layer])

    @torch.no_grad()
    def settle(self) -> None:
        if self._is_frozen():
            return
        # A step in low precision may overflow: it says nothing of a range.
        seen = torch.where(self.seen.isfinite().all(1, keepdim=True), self.seen, UNSEEN)
        all_reduce(seen, 'max')
        ran = seen[:, 0] > UNSEEN
        self.times += ran
        share = (1 / self.times.clamp(min=1)).clamp(min=self.momentum)[:, None]
        self.ranges = torch.where(ran[:, None], torch.lerp(self.ranges, seen, share), self.ranges)
        self.seen.fill_(UNSEEN)
        self._find()

    def _find(self) -> None:
        """Set the steps of each layer that was seen; on the CPU, so that a GPU waits once an iteration."""
        ranges, times = self.ranges.cpu(), self.times.tolist()
        steps = steps_between(-ranges[:, 0], ranges[:, 1], self.bits, self.mode)
        ends = (steps.least, steps.most) if self.mode == 'affine' else signed_ends(self.bits)
        self.known = {layer for layer, number in self.layers.items() if times[number]}
        places = {layer: self.layers[layer] for layer in self.known}
        self.found = {layer: Steps(steps.scale[at], steps.zero_point[at], *ends) for layer, at in places.items()}

    def steps_of(self, layer: str) -> Steps:
        return self.found[layer]

    def learnt(self) -> dict[str, Tensor]:
        """Return (-least, greatest, iterations) of each layer that was seen: float64, on the CPU."""
        kept = torch.cat([self.ranges, self.times[:, None]], 1).double().cpu()
        return {layer: kept[number].clone() for layer, number in self.layers.items() if layer in self.known}

    def check(self, layer: str, learnt: Tensor) -> None:
        if learnt.shape != (3,):
            raise ValueError(
                f'the checkpoint holds no range of activations of the layer {layer}, but {learnt.tolist()}'
            )

    def take(self, layer: str, learnt: Tensor) -> None:
        number = self.layers[layer]
        self.ranges[number] = learnt[:2].to(self.ranges)
        self.times[number] = int(learnt[2])

    def taken(self) -> None:
        self._find()

    def extra_repr(self) -> str:
        return f'bits={self.bits}, mode={self.mode!r}, momentum={self.momentum}, freeze_after={self.freeze_after}'


@MODELS.register_module()
class LSQActivationQuantiser(ActivationQuantiser):
    """Even steps from or about 0, whose size learns (LSQ); see :func:`on_learned_steps`.

    After the first iteration in which a layer runs, its step is ``2 · mean|v| / √most``, and whole numbers reach from 0 to
    ``2^bits - 1`` if nothing was less than 0, from ``-2^(bits-1)`` to ``2^(bits-1) - 1`` otherwise. Until then, nothing is
    rounded.

    Args:
        bits: 2 to 8.
    """

    name = 'learned steps of activations'
    learns = True

    def __init__(self, bits: int = 8) -> None:
        super().__init__(bits)
        self.numbers = nn.ParameterList()
        self.ends: dict[str, tuple[int, int]] = {}

    def forget(self, device: torch.device) -> None:
        self.numbers = nn.ParameterList(nn.Parameter(torch.ones((), device=device)) for _ in self.layers)
        self.least = torch.zeros(len(self.layers), device=device)
        self.sums = torch.zeros(len(self.layers), 2, dtype=torch.double, device=device)  # of |v|, and how many

    def watch(self, value: Tensor, layer: str) -> None:
        if layer in self.known:
            return
        number = self.layers[layer]
        self.least[number] = torch.minimum(self.least[number], value.amin().float())
        self.sums[number] += torch.stack([value.abs().sum(dtype=torch.double), self.sums.new_tensor(value.numel())])

    def rounded(self, value: Tensor, layer: str) -> Tensor:
        step = self.numbers[self.layers[layer]]
        return on_learned_steps(value, step, *self.ends[layer], count=value[0].numel())

    @torch.no_grad()
    def settle(self) -> None:
        if len(self.known) == len(self.layers):
            return
        all_reduce(self.least, 'min')
        all_reduce(self.sums, 'sum')
        sums, least = self.sums.cpu(), self.least.cpu()
        for layer, number in self.layers.items():
            total, count = sums[number].tolist()
            if layer not in self.known and count and math.isfinite(total):
                has_sign = float(least[number] < 0)
                most = signed_ends(self.bits)[1] if has_sign else ends_of(self.bits, 'affine')[1]
                self.take(layer, torch.stack([first_step(sums[number, :1] / count, most), torch.tensor(has_sign)]))
        self.least.zero_()
        self.sums.zero_()

    @torch.no_grad()
    def tidy(self) -> None:
        """Keep steps greater than 0."""
        for one in self.numbers:
            one.clamp_(min=SMALLEST_STEP)

    def steps_of(self, layer: str) -> Steps:
        scale = self.numbers[self.layers[layer]].detach().cpu().clone()
        return Steps(scale, torch.zeros_like(scale, dtype=torch.int32), *self.ends[layer])

    def learnt(self) -> dict[str, Tensor]:
        """Return (step, whether it has a sign) of each layer that was seen, on the CPU."""
        found = {layer: self.steps_of(layer) for layer in self.layers if layer in self.known}
        return {layer: torch.stack([one.scale, torch.tensor(float(one.least < 0))]) for layer, one in found.items()}

    def check(self, layer: str, learnt: Tensor) -> None:
        if learnt.shape != (2,):
            raise ValueError(f'the checkpoint holds no learned step of the layer {layer}, but {learnt.tolist()}')

    def take(self, layer: str, learnt: Tensor) -> None:
        step, has_sign = learnt
        self.numbers[self.layers[layer]].copy_(step)
        self.ends[layer] = signed_ends(self.bits) if has_sign else ends_of(self.bits, 'affine')
        self.known.add(layer)

    def extra_repr(self) -> str:
        return f'bits={self.bits}'
