"""Gradients of the terms beside the task's."""

import pytest
import torch
from torch import nn

from kddense.apps.measure.gradients import gradient_shares, grouped


class Adversarial(nn.Module):
    own_losses = frozenset({'loss_discriminator'})


def test_losses_are_grouped_by_who_brings_them():
    losses = {
        'decode.loss_ce': torch.tensor(1.0),
        'loss_boxes': [torch.tensor([1.0, 3.0]), torch.tensor(2.0)],
        'decode.acc_seg': torch.tensor(90.0),
        'distill.holistic.loss_student': torch.tensor(5.0),
        'distill.holistic.loss_discriminator': torch.tensor(100.0),
        'distill.holistic.score_student': torch.tensor(1.0),
    }

    groups = grouped(losses, dict(holistic=Adversarial()))

    assert {name: value.item() for name, value in groups.items()} == {'task': 5.0, 'holistic': 5.0}


@pytest.fixture(scope='module')
def shares(structured):
    def measured(weight):
        objectives = dict(pixel=dict(type='kddense.PixelWiseObjective', weight=weight))
        torch.manual_seed(0)
        return gradient_shares(structured.distilled(objectives, randomness=dict(seed=0)), batches=1)

    return {weight: measured(weight) for weight in (1.0, 3.0)}


def test_the_ratio_grows_with_the_weight_and_the_cosine_does_not(shares):
    once, thrice = shares[1.0]['pixel'], shares[3.0]['pixel']

    assert once['ratio'] > 0
    assert thrice['ratio'] == pytest.approx(3 * once['ratio'], rel=1e-3)
    assert thrice['cosine'] == pytest.approx(once['cosine'], abs=1e-3)
    assert -1 <= once['cosine'] <= 1
    assert shares[1.0]['task'] == pytest.approx(shares[3.0]['task'], rel=1e-3)


def test_a_plain_student_has_no_terms(structured):
    with pytest.raises(ValueError, match=r'model.objectives is missing'):
        gradient_shares(structured.plain())


def test_objectives_know_the_run(segmentor):
    config = segmentor.distilled()
    config.model.objectives = dict(
        crd=dict(type='kddense.CRDObjective', dim=4, weight=dict(value=1.0, stop=0.5))  # a bank, and a part of the run
    )

    assert gradient_shares(config, batches=3)['crd']['ratio'] > 0  # an empty bank gives none
