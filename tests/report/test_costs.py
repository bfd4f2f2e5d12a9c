"""What a model costs to run, on one whose numbers are known."""

import io

import numpy as np
import torch
from torch import nn

from kddense.report.costs import measure_costs
from kddense.report.examples import Example


class Convolution(nn.Module):
    """A model of 4 · 27 + 4 parameters, which multiplies 6 · 6 · 4 · 27 times on an image of 8 x 8."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def test_step(self, batch):
        return self.layer(torch.stack(batch['inputs']))


def test_costs_are_counted():
    model = Convolution().eval()
    example = Example('a.png', np.zeros((8, 8, 3), np.uint8), dict(inputs=torch.zeros(3, 8, 8), data_samples=0), {})
    costs = measure_costs({'small': model}, {'small': example}, rounds=3)['small']

    assert costs.parameters == 112
    assert costs.multiply_adds == 6 * 6 * 4 * 27
    assert costs.latency > 0
    saved = io.BytesIO()
    torch.save(dict(state_dict=model.state_dict()), saved)
    assert costs.file_size == len(saved.getvalue())
