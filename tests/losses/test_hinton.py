"""Soft targets: the numbers of a worked example, a loop, gradients, masks, precision, edges."""

import numpy as np
import pytest
import torch

from kddense.losses import HintonLoss, sigmoid_soft_target_divergence, soft_target_divergence

BOTH = pytest.mark.parametrize('divergence', [soft_target_divergence, sigmoid_soft_target_divergence])


def kl(p, q):
    return sum(a * np.log(a / b) for a, b in zip(p, q, strict=True))


def softmax_kl(student, teacher, temperature):
    """Loop-form reference for one position."""
    p, q = (np.exp(z / temperature) / np.exp(z / temperature).sum() for z in (teacher, student))
    return temperature**2 * kl(p, q)


def sigmoid_kl(student, teacher, temperature):
    p, q = (1 / (1 + np.exp(-z / temperature)) for z in (teacher, student))
    return temperature**2 * sum(kl((a, 1 - a), (b, 1 - b)) for a, b in zip(p, q, strict=True))


REFERENCES = {soft_target_divergence: softmax_kl, sigmoid_soft_target_divergence: sigmoid_kl}


@pytest.mark.parametrize('temperature, expected', [(1, 0.243574), (2, 0.517443), (4, 0.676136)])
def test_softmax_by_hand(temperature, expected):
    student = torch.tensor([[1.0, 0, 0]], dtype=torch.float64)
    teacher = torch.tensor([[2.0, 0, -2]], dtype=torch.float64)
    loss = HintonLoss(temperature)(student, teacher)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_sigmoid_by_hand():
    """The worked example gives cross-entropies, which are the divergence and the teacher's entropy together."""
    student = torch.tensor([[1.0], [0]], dtype=torch.float64)
    teacher = torch.tensor([[2.0], [-1]], dtype=torch.float64)
    p = 1 / (1 + np.exp(-teacher.numpy()[:, 0]))
    entropy = -p * np.log(p) - (1 - p) * np.log(1 - p)
    per_class = [HintonLoss(mode='sigmoid')(student[i : i + 1], teacher[i : i + 1]).item() for i in range(2)]
    np.testing.assert_allclose(per_class + entropy, [0.432465, 0.693147], rtol=1e-5)
    both = HintonLoss(mode='sigmoid')(student.T, teacher.T)
    np.testing.assert_allclose(both, sum(per_class), rtol=1e-12)  # classes are summed


@BOTH
def test_maps_agree_with_a_loop_over_pixels(divergence):
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 2, 5, 3, 4)) * 3
    mask = rng.random((2, 3, 4)) < 0.4
    reference = REFERENCES[divergence]
    pixels = np.array(
        [
            [[reference(student[n, :, y, x], teacher[n, :, y, x], 2.5) for x in range(4)] for y in range(3)]
            for n in range(2)
        ]
    )
    student, teacher = torch.from_numpy(student), torch.from_numpy(teacher)
    np.testing.assert_allclose(divergence(student, teacher, 2.5), pixels.mean(), rtol=1e-10)
    masked = divergence(student, teacher, 2.5, mask=torch.from_numpy(mask))
    np.testing.assert_allclose(masked, pixels[mask].mean(), rtol=1e-10)


@BOTH
@pytest.mark.parametrize('dim', [1, 2, -1])
def test_any_dimension_may_hold_the_classes(divergence, dim):
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 4, 5, generator=generator, dtype=torch.float64)
    mask = torch.rand(6, 5, generator=generator) < 0.5
    expected = divergence(student, teacher, 2.0, dim=1, mask=mask)
    moved = divergence(student.movedim(1, dim), teacher.movedim(1, dim), 2.0, dim=dim, mask=mask)
    torch.testing.assert_close(moved, expected)


@BOTH
def test_agreement_costs_nothing(divergence):
    logits = torch.randn(3, 7, generator=torch.Generator().manual_seed(0)) * 30
    student = logits.clone().requires_grad_()
    loss = divergence(student, logits, 3.0)
    loss.backward()
    assert loss.item() == 0
    torch.testing.assert_close(student.grad, torch.zeros(3, 7), atol=1e-6, rtol=0)


@pytest.mark.parametrize('mode, probabilities', [('softmax', lambda z: z.softmax(1)), ('sigmoid', torch.sigmoid)])
def test_gradient_is_the_difference_of_probabilities(mode, probabilities):
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 4, 6, generator=generator, dtype=torch.float64)
    student.requires_grad_()
    HintonLoss(temperature=3.0, mode=mode)(student, teacher).backward()
    expected = 3.0 * (probabilities(student.detach() / 3) - probabilities(teacher / 3)) / 4  # τ² · (p_s - p_t) / τ
    torch.testing.assert_close(student.grad, expected)


@BOTH
def test_gradient_is_exact(divergence):
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 2, 3, 2, 2, generator=generator, dtype=torch.float64)
    mask = torch.tensor([[[True, False], [True, True]], [[False, False], [False, True]]])
    assert torch.autograd.gradcheck(lambda s: divergence(s, teacher, 2.0, mask=mask), student.requires_grad_())


@BOTH
def test_masked_positions_and_the_teacher_get_no_gradient(divergence):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 3, generator=generator).requires_grad_() for _ in range(2))
    divergence(student, teacher, mask=torch.tensor([False, True])).backward()
    assert teacher.grad is None
    assert not student.grad[0].any()
    assert student.grad[1].all()


@BOTH
@pytest.mark.parametrize('rows, mask', [(0, None), (0, []), (2, [False, False])])
def test_no_positions_is_a_zero_that_back_propagates(divergence, rows, mask):
    student = torch.randn(rows, 3).requires_grad_()
    loss = divergence(
        student, torch.randn(rows, 3), mask=None if mask is None else torch.tensor(mask, dtype=torch.bool)
    )
    loss.backward()
    assert loss.item() == 0
    assert student.grad.shape == (rows, 3)
    assert not student.grad.any()


@BOTH
def test_half_precision_logits_are_computed_in_float32(divergence):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (20 * torch.randn(2, 64, 19, generator=generator)).bfloat16()
    expected = divergence(student.double(), teacher.double(), 4.0)
    student.requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = divergence(student, teacher, 4.0)
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    assert student.grad.dtype == torch.bfloat16
    assert student.grad.isfinite().all()


@BOTH
def test_extreme_logits_stay_finite(divergence):
    student = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = divergence(student, -student.detach())
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


@BOTH
def test_bad_input_is_named(divergence):
    logits = torch.zeros(2, 3, 4, 5)
    with pytest.raises(
        ValueError, match=r'student and teacher must have one shape, got \(2, 3, 4, 5\), \(2, 3, 4, 4\)'
    ):
        divergence(logits, logits[..., :4])
    with pytest.raises(ValueError, match=r'mask must have the shape of the positions, \(2, 4, 5\), got \(4, 5\)'):
        divergence(logits, logits, mask=torch.ones(4, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match=r'mask must be boolean, got torch.float32'):
        divergence(logits, logits, mask=torch.ones(2, 4, 5))
    with pytest.raises(ValueError, match=r'dim must name a dimension of logits of shape \(2, 3, 4, 5\), got 4'):
        divergence(logits, logits, dim=4)
    with pytest.raises(ValueError, match='at least one class'):
        divergence(logits[:, :0], logits[:, :0])
    for temperature in (0.0, -1.0, float('nan'), float('inf')):
        with pytest.raises(ValueError, match='temperature must be above 0'):
            divergence(logits, logits, temperature)


def test_the_module_checks_when_built():
    with pytest.raises(ValueError, match='temperature must be above 0, got 0'):
        HintonLoss(temperature=0)
    with pytest.raises(ValueError, match="mode must be one of 'softmax', 'sigmoid', got 'tanh'"):
        HintonLoss(mode='tanh')


def test_the_module_passes_everything_on():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 2, 5, 3, generator=generator)
    mask = torch.rand(2, 5, generator=generator) < 0.5
    for mode, divergence in (('softmax', soft_target_divergence), ('sigmoid', sigmoid_soft_target_divergence)):
        loss = HintonLoss(temperature=2.0, mode=mode, dim=-1)(student, teacher, mask)
        torch.testing.assert_close(loss, divergence(student, teacher, 2.0, -1, mask), rtol=0, atol=0)
