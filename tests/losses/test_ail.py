"""Attentive imitation: the worked example, loops, masks, the edges of the attention."""

import numpy as np
import pytest
import torch

from kddense.losses import (
    AttentiveHintLoss,
    AttentiveImitationLoss,
    attention_weight,
    attentive_imitation,
    attentive_regression,
    sample_error,
)

TARGET = torch.zeros(3, 2, dtype=torch.float64)
TEACHER = torch.tensor([[0.1, 0], [0.3, 0], [0.5, 0]], dtype=torch.float64)
STUDENT = torch.tensor([[0.2, 0]] * 3, dtype=torch.float64)
RANGE = 0.24
FEATURES = torch.tensor([[1.0, 1], [0, 0], [0, 1]]), torch.tensor([[1.0, 2], [0, 1], [1, 1]])


def test_example_13_the_attention():
    error = sample_error(TEACHER, TARGET)
    np.testing.assert_allclose(error, [0.01, 0.09, 0.25])
    assert (error.max() - error.min()).item() == pytest.approx(RANGE)
    np.testing.assert_allclose(attention_weight(error, RANGE), [0.958333, 0.625, -0.041667], atol=1e-6)
    np.testing.assert_allclose(attention_weight(error, RANGE, clamp=True), [0.958333, 0.625, 0], atol=1e-6)


@pytest.mark.parametrize('clamp, mean', [(False, 0.0220139), (True, 0.0226389)])
def test_example_13_the_regression(clamp, mean):
    per_sample = attentive_regression(STUDENT, TEACHER, TARGET, RANGE, clamp=clamp)
    np.testing.assert_allclose(per_sample[:2], [0.0247917, 0.023125], atol=1e-7)
    assert per_sample.mean().item() == pytest.approx(mean, abs=1e-7)
    assert per_sample[2].item() == pytest.approx(0.02 if clamp else 0.018125)


@pytest.mark.parametrize('clamp, mean', [(False, 0.513889), (True, 0.527778)])
def test_example_13_the_hint(clamp, mean):
    loss = AttentiveHintLoss(entries='sum', clamp=clamp)
    error = sample_error(TEACHER, TARGET)
    assert loss(*FEATURES, error, RANGE).item() == pytest.approx(mean, abs=1e-6)
    halved = AttentiveHintLoss(clamp=clamp)(*FEATURES, error, RANGE)  # two elements each
    assert halved.item() == pytest.approx(mean / 2, abs=1e-6)


def test_the_module_is_the_imitation_alone():
    alone = attentive_regression(STUDENT, TEACHER, TARGET, RANGE, alpha=0, clamp=True)
    torch.testing.assert_close(AttentiveImitationLoss()(STUDENT, TEACHER, TARGET, RANGE), alone.mean())
    loss = AttentiveImitationLoss()(STUDENT, TEACHER, TARGET, RANGE, num_samples=12)
    torch.testing.assert_close(loss, alone.sum() / 12)


@pytest.mark.parametrize('entries', ['sum', 'mean'])
@pytest.mark.parametrize('per', ['sample', 'entry'])
def test_agrees_with_a_loop_over_masked_maps(per, entries):
    generator = np.random.default_rng(0)
    student, teacher, target = generator.normal(size=(3, 4, 1, 5, 6))
    mask = generator.random((4, 1, 5, 6)) < 0.6
    mask[2] = False
    terms = []
    for s, t, y, m in zip(student, teacher, target, mask, strict=True):
        if not m.any():
            continue
        error = (t[m] - y[m]) ** 2
        if per == 'sample':
            error = error.sum() if entries == 'sum' else error.mean()
        attention = np.clip(1 - error / 4.0, 0, 1)
        distance = attention * (s[m] - t[m]) ** 2
        terms.append(distance.sum() if entries == 'sum' else distance.mean())
    inputs = map(torch.from_numpy, (student, teacher, target))
    loss = AttentiveImitationLoss(per=per, entries=entries)(*inputs, 4.0, mask=torch.from_numpy(mask))
    assert len(terms) == 3
    np.testing.assert_allclose(loss, sum(terms) / 3, rtol=1e-12)


def test_absolute_errors_by_hand():
    np.testing.assert_allclose(sample_error(STUDENT, TEACHER, norm='l1'), [0.1, 0.1, 0.3])
    mask = torch.tensor([[True, False], [True, True], [False, False]])
    np.testing.assert_allclose(sample_error(STUDENT, TEACHER, mask, 'l1', 'mean'), [0.1, 0.05, 0], atol=1e-12)


def test_an_error_of_another_measure_is_taken_as_given():
    error = torch.tensor([0.0, 1.0, 2.0])
    loss = AttentiveImitationLoss()(STUDENT, TEACHER, TARGET, error_range=2.0, error=error)
    np.testing.assert_allclose(loss, (0.01 + 0.5 * 0.01 + 0) / 3)


def test_one_number_per_sample():
    """Vectors without entries: the sample is its only entry."""
    loss = AttentiveImitationLoss()(STUDENT[:, 0], TEACHER[:, 0], TARGET[:, 0], RANGE)
    torch.testing.assert_close(loss, AttentiveImitationLoss()(STUDENT, TEACHER, TARGET, RANGE))


@pytest.mark.parametrize('clamp', [False, True])
def test_no_spread_is_full_trust(clamp):
    error = torch.tensor([0.3, 0.3], requires_grad=True)
    for nothing in (0.0, torch.zeros(())):
        weight = attention_weight(error, nothing, clamp)
        assert weight.tolist() == [1, 1]
        assert not weight.requires_grad


@pytest.mark.parametrize('per', ['sample', 'entry'])
def test_gradient_is_exact(per):
    generator = torch.Generator().manual_seed(0)
    student, teacher, target = torch.randn(3, 4, 2, 3, generator=generator, dtype=torch.float64)
    mask = torch.rand(4, 2, 3, generator=generator) < 0.7
    loss = AttentiveImitationLoss(per=per, entries='mean', clamp=False)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher, target, 2.0, mask=mask), student.requires_grad_())
    assert torch.autograd.gradcheck(lambda s: attentive_regression(s, teacher, target, 2.0, 0.3, mask).sum(), student)


def test_only_the_student_learns():
    student, teacher, target = (values.clone().requires_grad_() for values in (STUDENT, TEACHER, TARGET))
    attentive_regression(student, teacher, target.detach(), RANGE).sum().backward()
    assert teacher.grad is None
    np.testing.assert_allclose(student.grad[0], [0.2 + 0.958333 * 0.1, 0], atol=1e-6)  # to the truth and to the teacher
    features = [values.clone().requires_grad_() for values in FEATURES]
    error = torch.tensor([0.0, 0.1, 0.2], requires_grad=True)
    AttentiveHintLoss()(*features, error, RANGE).backward()
    assert features[1].grad is None
    assert error.grad is None
    assert features[0].grad.abs().sum() > 0


def test_what_is_masked_may_be_infinite():
    """Depth 0 means none, and its logarithm is minus infinity."""
    student = STUDENT.clone().requires_grad_()
    target = TARGET.clone()
    target[:, 1] = -torch.inf
    mask = target.isfinite()
    loss = AttentiveImitationLoss(entries='mean')(student, TEACHER, target, RANGE, mask=mask)
    loss.backward()
    expected = AttentiveImitationLoss()(STUDENT[:, :1], TEACHER[:, :1], TARGET[:, :1], RANGE)
    torch.testing.assert_close(loss.detach(), expected)
    assert student.grad[:2, 0].all()  # the third is not trusted
    assert not student.grad[:, 1].any()


@pytest.mark.parametrize('entries', ['sum', 'mean'])
@pytest.mark.parametrize('per', ['sample', 'entry'])
def test_nothing_to_compare_is_a_zero_that_back_propagates(per, entries):
    loss = AttentiveImitationLoss(per=per, entries=entries)
    for shape in ((0, 4), (0, 1, 8, 8), (2, 1, 3, 3)):
        student = torch.ones(shape, requires_grad=True)
        value = loss(student, torch.zeros(shape), torch.zeros(shape), 1.0, mask=torch.zeros(shape, dtype=torch.bool))
        value.backward()
        assert value.item() == 0
        assert student.grad.shape == shape
        assert not student.grad.any()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('per', ['sample', 'entry'])
def test_half_precision_is_computed_in_float32(per, dtype):
    generator = torch.Generator().manual_seed(0)
    student, teacher, target = torch.randn(3, 8, 1, 16, 16, generator=generator).to(dtype)
    loss = AttentiveImitationLoss(per=per)
    expected = loss(student.double(), teacher.double(), target.double(), 1000.0)
    student.requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = loss(student, teacher.float(), target, torch.tensor(1000.0))
    value.backward()
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)
    assert student.grad.isfinite().all()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r'student, teacher and target must have one shape, got \(3, 2\), \(2, 2\)'):
        attentive_regression(STUDENT, TEACHER[:2], TARGET, RANGE)
    with pytest.raises(ValueError, match=r'prediction and mask must have one shape, got \(3, 2\), \(3, 1\)'):
        sample_error(STUDENT, TARGET, torch.ones(3, 1, dtype=torch.bool))
    with pytest.raises(ValueError, match=r'one weight per sample or per entry of \(3, 2\), got shape \(2,\)'):
        attentive_imitation(STUDENT, TEACHER, torch.ones(2))
    with pytest.raises(ValueError, match='dimension of samples'):
        sample_error(torch.tensor(0.0), torch.tensor(0.0))
    with pytest.raises(ValueError, match=r'error_range must be one number, got shape \(3,\)'):
        attention_weight(torch.zeros(3), torch.zeros(3))
    for wrong in (-1.0, float('inf'), float('nan')):
        with pytest.raises(ValueError, match='error_range must be at least 0'):
            attention_weight(torch.zeros(3), wrong)
    with pytest.raises(ValueError, match=r'alpha must lie in \[0, 1\], got 1.5'):
        attentive_regression(STUDENT, TEACHER, TARGET, RANGE, alpha=1.5)
    with pytest.raises(ValueError, match="entries must be one of 'sum', 'mean', got 'max'"):
        AttentiveHintLoss(entries='max')
    with pytest.raises(ValueError, match="entries must be one of 'sum', 'mean', got 'max'"):
        sample_error(STUDENT, TARGET, entries='max')
    with pytest.raises(ValueError, match="per must be one of 'sample', 'entry', got 'pixel'"):
        AttentiveImitationLoss(per='pixel')
    with pytest.raises(ValueError, match="norm must be one of 'l2', 'l1', got 'l3'"):
        sample_error(STUDENT, TARGET, norm='l3')
