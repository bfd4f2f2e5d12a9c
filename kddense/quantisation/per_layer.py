"""What has numbers of its own for each layer, which a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class PerLayer(nn.Module):
    """Numbers for each layer of a student.

    Attributes:
        name: What the numbers are, in messages.
        key: Where a checkpoint has them.
        layers: The place of each layer by its path in the student.
        whole: Whether each layer has them from the beginning on.
    """

    name = 'numbers'
    key = ''
    whole = True

    def __init__(self) -> None:
        super().__init__()
        self.layers: dict[str, int] = {}

    def learnt(self) -> dict[str, Tensor]:
        """Return copies of the numbers of each layer that has some, on the CPU."""
        raise NotImplementedError

    def check(self, layer: str, learnt: Tensor) -> None:
        """Raise ``ValueError`` unless numbers fit a layer."""

    def take(self, layer: str, learnt: Tensor) -> None:
        """Make a layer's numbers those of a checkpoint."""
        raise NotImplementedError

    def taken(self) -> None:
        """Follow what all layers took over."""

    @torch.no_grad()
    def restore(self, learnt: Mapping[str, Tensor] | None) -> None:
        """Take over what :meth:`learnt` returned, once the layers are known.

        Args:
            learnt: ``None`` if the checkpoint has nothing of the kind. What is no mapping of tensors counts as that.

        Raises:
            ValueError: If there is nothing, or it is of other layers or another form.
        """
        if not isinstance(learnt, Mapping) or not all(isinstance(one, Tensor) for one in learnt.values()):
            raise ValueError(
                f'the checkpoint holds no {self.name}, which {type(self).__name__} needs: give one that was trained with '
                f'{"it" if self.whole else "it, or calibrated with kddense export --quantised --calibrate"}'
            )
        differing = sorted(self.layers.keys() ^ learnt.keys() if self.whole else learnt.keys() - self.layers.keys())
        if differing:
            raise ValueError(
                f'the {self.name} in the checkpoint are of other layers, they differ in {len(differing)} such as '
                f'{differing[0]}: quantise the layers that it was trained with (skip, ends), or begin anew with load_from'
            )
        for layer, numbers in learnt.items():
            self.check(layer, numbers)
        for layer, numbers in learnt.items():
            self.take(layer, numbers)
        self.taken()
