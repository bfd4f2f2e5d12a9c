"""Adversarial losses of a discriminator that scores teachers above students.

Wasserstein: Arjovsky, Chintala, Bottou, "Wasserstein GAN", arXiv:1701.07875; its gradient penalty: Gulrajani et al.,
"Improved Training of Wasserstein GANs", arXiv:1704.00028, section 4; hinge: Lim, Ye, "Geometric GAN", arXiv:1705.02894,
and Miyato et al., "Spectral Normalization for Generative Adversarial Networks", arXiv:1802.05957. Used for distillation
by Liu et al., "Structured Knowledge Distillation for Dense Prediction", arXiv:1903.04197, section 3.2: the teacher's
maps are the real ones, the student's the generated ones.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kddense.losses._checks import check_same_shape, full_precision


def wasserstein_discriminator_loss(student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """Loss of a Wasserstein discriminator, without its penalty: ``mean(student) - mean(teacher)``.

    Its negative estimates the distance between the maps of the two only while the discriminator is about 1-Lipschitz;
    that is what :func:`gradient_penalty` is for.

    Gradients flow into both scores, since both train the discriminator. Compute them from maps without gradients.

    Args:
        student_scores: The discriminator's scores of the student's maps, shape ``(N,)``, of any floating dtype; computed
            in float32, or in float64 if either input is.
        teacher_scores: Scores of the teacher's maps, likewise; the batch may have another size.

    Returns:
        A scalar: each mean is over its own samples, 0 if there are none.

    Example:
        >>> wasserstein_discriminator_loss(torch.tensor([0.5, 1.5]), torch.tensor([2.0, 3.0]))
        tensor(-1.5000)
    """
    student_scores, teacher_scores = full_precision(student_scores, teacher_scores)
    return _mean(student_scores) - _mean(teacher_scores)


def hinge_discriminator_loss(student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """Loss of a hinge discriminator: ``mean(max(0, 1 + student)) + mean(max(0, 1 - teacher))``.

    A student's score below -1 and a teacher's above 1 are good enough and give no gradient. Gradients flow into both
    scores, as in :func:`wasserstein_discriminator_loss`.

    Args:
        student_scores: The discriminator's scores of the student's maps, shape ``(N,)``, of any floating dtype; computed
            in float32, or in float64 if either input is.
        teacher_scores: Scores of the teacher's maps, likewise; the batch may have another size.

    Returns:
        A scalar: each mean is over its own samples, 0 if there are none.

    Example:
        >>> hinge_discriminator_loss(torch.tensor([-2.0, 0.0]), torch.tensor([0.5, 3.0]))
        tensor(0.7500)
    """
    student_scores, teacher_scores = full_precision(student_scores, teacher_scores)
    return _mean((1 + student_scores).relu()) + _mean((1 - teacher_scores).relu())


def adversarial_loss(student_scores: Tensor) -> Tensor:
    """Loss of the student against either discriminator: ``-mean(student)``, a mean over samples.

    Args:
        student_scores: The discriminator's scores of the student's maps, shape ``(N,)``, of any floating dtype; computed
            in float32, or in float64 if the input is. Hold the discriminator's parameters fixed where they are computed.

    Returns:
        A scalar, 0 if there is no score.

    Example:
        >>> adversarial_loss(torch.tensor([0.5, 1.5]))
        tensor(-1.)
    """
    (student_scores,) = full_precision(student_scores)
    return -_mean(student_scores)


def gradient_penalty(
    score: Callable[[Tensor], Tensor], student: Tensor, teacher: Tensor, mix: Tensor | None = None
) -> Tensor:
    """Gradient penalty of a discriminator, taken between the student's maps and the teacher's.

    ``mean over samples of (‖∇_û D(û)‖₂ - 1)²`` at ``û = mix · teacher + (1 - mix) · student``. The norm is over all of a
    sample's values. The paper weights it by λ = 10; here the caller does.

    It is differentiated once more, into the discriminator's parameters and nothing else. Autocast is off within,
    because squares of small gradients are lost in half precision. The gradient of a flat discriminator, whose slope is
    0, is 0 rather than undefined. Scores must not depend on other samples, as batch normalisation in training mode
    makes them: the gradient is that of their sum.

    Args:
        score: The discriminator, from maps of the student's shape to scores ``(N,)``; a condition is bound before, as
            in ``lambda maps: discriminator(maps, images)``.
        student: The student's maps, shape ``(N, ...)``, of any floating dtype; computed in float32, or in float64 if
            either input is. No gradient flows into it.
        teacher: The teacher's maps, same shape. No gradient flows into it.
        mix: How much of the teacher each sample takes, shape ``(N,)``, from 0 to 1; drawn uniformly by the global
            generator of the maps' device if not given.

    Returns:
        A scalar.

    Raises:
        ValueError: If the shapes differ or are those of scalars, or ``mix`` or the scores do not have one value per sample.

    Example:
        >>> weight = torch.tensor([3.0, 4.0])
        >>> gradient_penalty(lambda maps: maps @ weight, torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
        tensor(16.)
    """
    check_same_shape(student=student, teacher=teacher)
    if student.ndim == 0:
        raise ValueError('student and teacher must have a dimension of samples, got scalars')
    with torch.autocast(student.device.type, enabled=False):
        student, teacher = full_precision(student.detach(), teacher.detach())
        between = _between(student, teacher, mix).requires_grad_()
        scores = score(between)
        _check_one_per_sample('score(maps)', scores, len(student))
        (gradient,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
        slope = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
        return _mean((slope - 1).square())


def _between(student: Tensor, teacher: Tensor, mix: Tensor | None) -> Tensor:
    if mix is None:
        mix = torch.rand(len(student), dtype=student.dtype, device=student.device)
    _check_one_per_sample('mix', mix, len(student))
    mix = mix.detach().to(student.dtype).view(-1, *[1] * (student.ndim - 1))
    return mix * teacher + (1 - mix) * student


def _check_one_per_sample(name: str, values: Tensor, num_samples: int) -> None:
    if tuple(values.shape) != (num_samples,):
        raise ValueError(f'{name} must have shape ({num_samples},), one value per sample, got {tuple(values.shape)}')


def _mean(values: Tensor) -> Tensor:
    return values.sum() / max(values.numel(), 1)
