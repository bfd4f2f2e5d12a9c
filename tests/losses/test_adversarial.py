"""Adversarial losses: the worked numbers, closed forms of the penalty, what it trains, precision, bad input."""

import numpy as np
import pytest
import torch
from torch import nn

from kddense.losses.adversarial import (
    adversarial_loss,
    gradient_penalty,
    hinge_discriminator_loss,
    wasserstein_discriminator_loss,
)

DISCRIMINATOR_LOSSES = pytest.mark.parametrize(
    'loss', [wasserstein_discriminator_loss, hinge_discriminator_loss], ids=['wasserstein', 'hinge']
)


def maps_of(*shape, seed=0, dtype=torch.float64):
    """Student's and teacher's maps."""
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class SmallDiscriminator(nn.Module):
    """Curved, so that its slope depends on where it is taken."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 1, 2)

    def forward(self, maps):
        return self.second(torch.tanh(self.first(maps))).mean(dim=(1, 2, 3))


@pytest.mark.parametrize('weight, expected', [((0.6, 0.8), -1.0), ((1.2, 1.6), 8.0)])
def test_wasserstein_with_its_penalty_by_hand(weight, expected):
    weight = torch.tensor(weight, dtype=torch.float64)
    student = torch.tensor([[1.0, 0]], dtype=torch.float64)
    teacher = torch.tensor([[0.0, 2]], dtype=torch.float64)

    def score(maps):
        return maps @ weight

    loss = wasserstein_discriminator_loss(score(student), score(teacher))
    loss = loss + 10 * gradient_penalty(score, student, teacher)

    np.testing.assert_allclose(loss, expected, atol=1e-12)


def test_the_students_term_by_hand():
    loss = adversarial_loss(torch.tensor([[1.0, 0]], dtype=torch.float64) @ torch.tensor([0.6, 0.8]).double())

    np.testing.assert_allclose([loss, 0.1 * loss], [-0.6, -0.06], rtol=1e-6)


def test_scores_agree_with_a_loop():
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=7) * 2, rng.normal(size=4) * 2
    hinge = sum(max(0, 1 + s) for s in student) / 7 + sum(max(0, 1 - t) for t in teacher) / 4
    student_scores, teacher_scores = torch.from_numpy(student), torch.from_numpy(teacher)

    wasserstein = wasserstein_discriminator_loss(student_scores, teacher_scores)
    np.testing.assert_allclose(wasserstein, sum(student) / 7 - sum(teacher) / 4, rtol=1e-12)
    np.testing.assert_allclose(hinge_discriminator_loss(student_scores, teacher_scores), hinge, rtol=1e-12)
    np.testing.assert_allclose(adversarial_loss(student_scores), -sum(student) / 7, rtol=1e-12)


@pytest.mark.parametrize(
    'loss, student_gradient, teacher_gradient',
    [
        (wasserstein_discriminator_loss, [0.5, 0.5], [-0.5, -0.5]),
        (hinge_discriminator_loss, [0, 0.5], [-0.5, 0]),  # what lies beyond the margin is left alone
    ],
)
def test_both_scores_train_the_discriminator(loss, student_gradient, teacher_gradient):
    student = torch.tensor([-3.0, 0], requires_grad=True)
    teacher = torch.tensor([0.0, 3], requires_grad=True)

    loss(student, teacher).backward()

    assert student.grad.tolist() == student_gradient
    assert teacher.grad.tolist() == teacher_gradient


@DISCRIMINATOR_LOSSES
def test_gradients_of_scores_are_exact(loss):
    student, teacher = (scores.requires_grad_() for scores in maps_of(5).unbind())

    assert torch.autograd.gradcheck(loss, (student, teacher))
    assert torch.autograd.gradcheck(adversarial_loss, student)


@DISCRIMINATOR_LOSSES
def test_half_precision_scores_are_averaged_in_float32(loss):
    student, teacher = (scores.bfloat16() for scores in 30 * maps_of(300))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got = torch.stack([loss(student, teacher), adversarial_loss(student)])

    assert got.dtype == torch.float32
    expected = torch.stack([loss(student.double(), teacher.double()), adversarial_loss(student.double())])
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)


def test_penalty_of_a_linear_discriminator():
    """Its slope is ‖w‖ everywhere, so the penalty's gradient is 2 (‖w‖ - 1) w / ‖w‖."""
    student, teacher = maps_of(3, 2, 4, 5)
    weight = maps_of(2, 4, 5, seed=1)[0].requires_grad_()

    penalty = gradient_penalty(lambda maps: (maps * weight).sum(dim=(1, 2, 3)), student, teacher)
    penalty.backward()

    slope = np.sqrt((weight.detach().numpy() ** 2).sum())
    np.testing.assert_allclose(penalty.item(), (slope - 1) ** 2, rtol=1e-12)
    np.testing.assert_allclose(weight.grad, 2 * (slope - 1) * weight.detach() / slope, rtol=1e-12)


def test_penalty_of_a_quadratic_discriminator_agrees_with_a_loop_over_samples():
    """D(q) = a ‖q‖² / 2 has the gradient a q: the penalty tells where between the two it was taken."""
    student, teacher = maps_of(4, 2, 3, 3)
    mix = torch.tensor([0, 0.25, 0.9, 0.5], dtype=torch.float64)
    scale = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    penalty = gradient_penalty(lambda maps: scale * maps.square().sum(dim=(1, 2, 3)) / 2, student, teacher, mix)
    penalty.backward()

    values, gradients = [], []
    for s, t, part in zip(student.numpy(), teacher.numpy(), mix.numpy(), strict=True):
        length = np.sqrt(((part * t + (1 - part) * s) ** 2).sum())
        values.append((0.3 * length - 1) ** 2)
        gradients.append(2 * (0.3 * length - 1) * length)
    np.testing.assert_allclose(penalty.item(), np.mean(values), rtol=1e-12)
    np.testing.assert_allclose(scale.grad, np.mean(gradients), rtol=1e-12)


def test_the_penaltys_gradient_into_the_discriminator_is_exact():
    torch.manual_seed(0)
    discriminator = SmallDiscriminator().double()
    student, teacher = maps_of(2, 2, 4, 4)
    mix = torch.tensor([0.2, 0.7], dtype=torch.float64)
    names = [name for name, _ in discriminator.named_parameters() if name != 'second.bias']  # a slope has no bias
    values = [discriminator.get_parameter(name).detach().requires_grad_() for name in names]

    def penalty(*values):
        weights = dict(zip(names, values, strict=True))
        return gradient_penalty(
            lambda maps: torch.func.functional_call(discriminator, weights, (maps,)), student, teacher, mix
        )

    assert torch.autograd.gradcheck(penalty, values)
    assert torch.autograd.gradgradcheck(penalty, values)


def test_neither_student_nor_teacher_gets_a_gradient():
    discriminator = SmallDiscriminator()
    student, teacher = (maps.requires_grad_() for maps in maps_of(2, 2, 4, 4, dtype=torch.float32).unbind())

    gradient_penalty(discriminator, student, teacher).backward()

    assert student.grad is None
    assert teacher.grad is None
    assert discriminator.first.weight.grad.any()


def test_a_flat_discriminator_gives_a_penalty_of_one_and_no_gradient():
    """The square root that a norm takes has an infinite slope at 0."""
    weight = torch.zeros(8, requires_grad=True)

    penalty = gradient_penalty(lambda maps: maps @ weight, *maps_of(3, 8, dtype=torch.float32))
    penalty.backward()

    assert penalty.item() == 1
    assert not weight.grad.any()  # nor NaN


def test_each_sample_draws_a_mix_of_its_own_from_the_global_generator():
    seen = []

    def score(maps):
        seen.append(maps.detach())
        return maps.square().sum(dim=(1, 2, 3))

    student, teacher = torch.zeros(2, 6, 2, 3, 3, dtype=torch.float64).unbind()
    torch.manual_seed(3)
    gradient_penalty(score, student, teacher + 1)
    torch.manual_seed(3)
    mix = torch.rand(6, dtype=torch.float64)

    assert torch.equal(seen[0], mix.view(6, 1, 1, 1).expand(6, 2, 3, 3))  # all of the teacher's where mix is 1


def test_a_given_mix_draws_no_random_number():
    before = torch.get_rng_state()
    gradient_penalty(lambda maps: maps.sum(dim=1), *maps_of(2, 3), mix=torch.tensor([0.5, 0.5]))

    assert torch.equal(torch.get_rng_state(), before)


def test_under_autocast_the_penalty_is_computed_in_float32():
    torch.manual_seed(0)
    discriminator = SmallDiscriminator()
    student, teacher = (maps.bfloat16() for maps in maps_of(2, 2, 6, 6).unbind())
    mix = torch.tensor([0.2, 0.7])
    expected = gradient_penalty(discriminator, student.float(), teacher.float(), mix)

    with torch.autocast('cpu', dtype=torch.bfloat16):
        penalty = gradient_penalty(discriminator, student, teacher, mix)

    assert penalty.dtype == torch.float32
    assert torch.equal(penalty, expected)


def test_bad_input_is_named():
    student, teacher = maps_of(2, 3)

    def score(maps):
        return maps.sum(dim=1)

    with pytest.raises(ValueError, match=r'student and teacher must have one shape, got \(2, 3\), \(1, 3\)'):
        gradient_penalty(score, student, teacher[:1])
    with pytest.raises(ValueError, match=r'mix must have shape \(2,\), one value per sample, got \(2, 1\)'):
        gradient_penalty(score, student, teacher, mix=torch.zeros(2, 1))
    with pytest.raises(ValueError, match=r'score\(maps\) must have shape \(2,\), one value per sample, got \(2, 3\)'):
        gradient_penalty(lambda maps: maps * 2, student, teacher)


@DISCRIMINATOR_LOSSES
def test_no_scores_count_nothing(loss):
    own, other = torch.tensor([0.5, 1.5]), torch.zeros(0)
    assert loss(own, other) + loss(other, own) == loss(own, own)
