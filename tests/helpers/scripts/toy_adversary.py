"""An adversarial objective for configs: small, and without chance, so that trainings can be compared bit for bit."""

from __future__ import annotations

import torch
from mmengine.registry import MODELS
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from kddense import Objective


@MODELS.register_module(force=True)
class ToyAdversary(Objective):
    """A Wasserstein critic of a segmentor's four logits, with spectral norms and a gradient penalty."""

    trains_adversary = True
    student_taps = teacher_taps = frozenset({'decode_head'})

    def __init__(self, **options) -> None:
        super().__init__(**options)
        layers = spectral_norm(nn.Conv2d(4, 8, 3, stride=2)), nn.LeakyReLU(0.1), spectral_norm(nn.Conv2d(8, 1, 3))
        self.discriminator = nn.Sequential(*layers)

    def forward(self, seen, taught):
        ours, theirs = seen.taps['decode_head'], taught.taps['decode_head']
        return dict(loss_student=self.student_term(ours), loss_own=self.own_term(ours.detach(), theirs))

    def student_term(self, ours):
        self.requires_grad_(False)
        try:
            return -self.discriminator(ours).mean()
        finally:
            self.requires_grad_(True)

    def own_term(self, ours, theirs):
        gap = self.discriminator(ours).mean() - self.discriminator(theirs).mean()
        with torch.autocast(ours.device.type, enabled=False):
            between = ((ours.float() + theirs.float()) / 2).requires_grad_()
            slope = torch.autograd.grad(self.discriminator(between).sum(), between, create_graph=True)[0]
        return gap + 10 * (slope.flatten(1).norm(dim=1) - 1).square().mean()
