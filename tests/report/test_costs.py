"""What a model costs to run, on one whose numbers are known."""

import io

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
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


@pytest.mark.parametrize('found', [0, 3, 20])
def test_multiply_adds_are_those_of_as_many_proposals_as_may_be(found):
    """A detector that finds more is not a larger one."""

    class Head(nn.Module):
        def predict(self):
            return [InstanceData(bboxes=torch.ones(found, 4), scores=torch.ones(found))]

    class TwoStage(nn.Module):
        test_cfg = dict(rpn=dict(max_per_img=20))

        def __init__(self):
            super().__init__()
            self.rpn_head, self.layer = Head(), nn.Linear(4, 5)

        def test_step(self, batch):
            return self.layer(self.rpn_head.predict()[0].bboxes)

    model = TwoStage().eval()
    example = Example('a.png', np.zeros((8, 8, 3), np.uint8), dict(inputs=torch.zeros(3, 8, 8), data_samples=0), {})
    costs = measure_costs({'it': model}, {'it': example}, rounds=1)['it']

    assert costs.multiply_adds == 20 * 4 * 5
    assert costs.proposals == 20
    assert len(model.rpn_head.predict()[0]) == found  # as before
